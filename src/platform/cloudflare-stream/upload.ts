import { Type } from '@sinclair/typebox'
import { GatewayError } from '../../errors.ts'
import { fits, Id } from '../http/border.ts'
import type { PlatformHttp } from '../http/http.ts'
import type { Content, VideoDraft } from '../platform.ts'
import type { PlatformTools } from '../tools.ts'
import { createTusUpload, uploadByTus } from '../upload/tus.ts'
import type { cloudflareApi } from './api.ts'
import { formUpload } from './form-upload.ts'

/** An upload that was created: the video, and how its content is sent. */
interface Upload {
  videoId: string
  send(content: Content): Promise<void>
}

interface Options {
  api: ReturnType<typeof cloudflareApi>
  http: PlatformHttp
  /** Path of the account's videos. */
  videos: string
  /** In seconds. */
  maxDuration: number
  /** In bytes. */
  chunkSize: number
  /** How often a chunk is tried, see PlatformTools. */
  retryPolicy: PlatformTools['chunks']
}

/** The longest that an upload URL may live, less a margin for clocks that differ. Milliseconds. */
const uploadUrlLifeMs = 6 * 3_600_000 - 300_000

const DirectUpload = Type.Object({ uid: Id, uploadURL: Type.String() })

/** The two ways to create an upload: by tus, whose size is exact, or as a form, whose size has an upper bound. */
export function createUploads({ api, http, videos, maxDuration, chunkSize, retryPolicy }: Options) {
  /** Creates a video for content of exactly `size` bytes. */
  async function openTusUpload(draft: VideoDraft, size: number, signal: AbortSignal): Promise<Upload> {
    const headers = await createTusUpload(http, {
      // Only with this parameter does the upload URL need no token.
      url: `${videos}?direct_user=true`,
      size,
      // Keys as in the guide: /stream/uploading-videos/direct-creator-uploads/#upload-metadata-header-syntax.
      // `requiresignedurls` is left out: its presence counts, not its value.
      metadata: { name: draft.title, maxDurationSeconds: String(maxDuration), expiry: expiry() },
      headers: { 'upload-creator': draft.id },
      signal,
    })
    const videoId = headers['stream-media-id']
    if (!fits(Id, videoId))
      throw new GatewayError('platform-protocol-error', 'cloudflare-stream returned no video id')
    const options = { ...retryPolicy, chunkSize, signal }
    return { videoId, send: (content) => uploadByTus(http, headers.location, content, options) }
  }

  /** Creates a video for content of at most 200 MB whose exact size is unknown. */
  async function openFormUpload(draft: VideoDraft, signal: AbortSignal): Promise<Upload> {
    const { uid, uploadURL } = await api.result(DirectUpload, {
      operation: 'provision',
      method: 'POST',
      url: `${videos}/direct_upload`,
      json: {
        maxDurationSeconds: maxDuration,
        creator: draft.id,
        expiry: expiry(),
        meta: { name: draft.title },
      },
      signal,
    })
    return { videoId: uid, send: (content) => formUpload(http, uploadURL, content, signal) }
  }

  return { openTusUpload, openFormUpload }
}

/** Returns when an upload URL that is created now expires. */
function expiry(): string {
  return new Date(Date.now() + uploadUrlLifeMs).toISOString()
}
