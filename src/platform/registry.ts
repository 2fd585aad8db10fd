import { apiVideo } from './api-video.ts'
import { cloudflareStream } from './cloudflare-stream.ts'
import { mux } from './mux.ts'
import { peertube } from './peertube.ts'
import { sandbox } from './sandbox.ts'
import type { PlatformDefinition } from './tools.ts'

/** Every platform the gateway knows. */
export const platformDefinitions: readonly PlatformDefinition[] = [
  sandbox,
  mux,
  apiVideo,
  peertube,
  cloudflareStream,
]
