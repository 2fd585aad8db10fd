import { apiVideo } from './api-video/api-video.ts'
import { cloudflareStream } from './cloudflare-stream/cloudflare-stream.ts'
import { mux } from './mux/mux.ts'
import { peertube } from './peertube/peertube.ts'
import { sandbox } from './sandbox/sandbox.ts'
import type { PlatformDefinition } from './tools.ts'

/** Every platform the gateway knows. */
export const platformDefinitions: readonly PlatformDefinition[] = [
  sandbox,
  mux,
  apiVideo,
  peertube,
  cloudflareStream,
]
