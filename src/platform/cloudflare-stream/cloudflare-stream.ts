import { type Static, type TSchema, Type } from '@sinclair/typebox'
import {
  failedBecause,
  Id,
  nullish,
  Pixels,
  pathSegment,
  processing,
  requireSame,
  Seconds,
  Url,
  unknownStates,
  Word,
} from '../http/border.ts'
import { createPlatformHttp } from '../http/http.ts'
import { fixedAuthorization } from '../http/token-cache.ts'
import { ignoreMissing, type VideoPlatform } from '../platform.ts'
import type { PlatformDefinition, PlatformTools } from '../tools.ts'
import { cloudflareApi } from './api.ts'
import { maxFormBytes } from './form-upload.ts'
import { cloudflareHints } from './hints.ts'
import { createUploads } from './upload.ts'
import { checkedChunkSize, type Variables, variables } from './variables.ts'

const name = 'cloudflare-stream'

/**
 * Adapter of Cloudflare Stream (https://developers.cloudflare.com/api/resources/stream/).
 *
 * The slot is created with the upload. A one-time upload URL whose id is known in advance (`direct_upload`) accepts at
 * most 200 MB; only tus accepts any size, and it requires the size before there is an id. So that small and large files
 * have the same lifecycle, all are sent by tus, except those whose size is not known exactly.
 */
export const cloudflareStream = {
  name,
  variables,
  create: createCloudflareStream,
} satisfies PlatformDefinition

/** Longer side of a thumbnail in pixels; the vendor's own default. */
const thumbnailSide = 640
/** The slot's handle once every byte was accepted, so that a state that lags behind does not look like lost content. */
const received = 'received'

const Listed = Type.Object({ uid: Id, creator: nullish(Type.String()) })
const uid = nullish(Id)
const State = Type.Object({
  uid,
  readyToStream: Type.Optional(Type.Boolean()),
  status: Type.Object({
    state: Word,
    /** Such as `"39.5"`. */
    pctComplete: Type.Optional(Type.Unknown()),
    errorReasonCode: nullish(Type.String()),
    errorReasonText: nullish(Type.String()),
  }),
})
/** Both are −1 until they are known, which the schema rejects. */
const Input = Type.Object({ width: Pixels, height: Pixels })
const Playable = Type.Object({
  uid,
  playback: Type.Object({ hls: Type.String() }),
  input: Input,
  /** −1 until it is known, which the schema rejects. */
  duration: Seconds,
})
const Pictured = Type.Object({ uid, thumbnail: Url, input: Input })

function createCloudflareStream(variables: Variables, tools: PlatformTools): VideoPlatform {
  const chunkSize = checkedChunkSize(variables)
  const http = createPlatformHttp({
    name,
    baseUrl: variables.CLOUDFLARE_STREAM_BASE_URL,
    authorization: fixedAuthorization(`Bearer ${variables.CLOUDFLARE_STREAM_API_TOKEN}`),
    uploadHosts: ['*.cloudflarestream.com', '*.videodelivery.net'],
    tools,
  })
  const videos = `accounts/${encodeURIComponent(variables.CLOUDFLARE_STREAM_ACCOUNT_ID)}/stream`

  const api = cloudflareApi(name, http)
  const uploads = createUploads({
    api,
    http,
    videos,
    maxDuration: variables.CLOUDFLARE_STREAM_MAX_DURATION,
    chunkSize,
    retryPolicy: tools.chunks,
  })
  const unknownState = unknownStates(name, tools.log)

  async function read<T extends TSchema>(
    schema: T,
    operation: string,
    videoId: string | null,
    signal: AbortSignal,
  ): Promise<Static<T>> {
    const result = await api.result(schema, { operation, method: 'GET', url: pathOf(videoId), signal })
    requireSame(name, videoId, (result as { uid?: string | null }).uid)
    return result
  }

  function pathOf(videoId: string | null): string {
    return `${videos}/${pathSegment(name, videoId)}`
  }

  function remove(videoId: string, signal: AbortSignal): Promise<void> {
    return api.done({ operation: 'remove', method: 'DELETE', url: pathOf(videoId), signal })
  }

  return {
    name,
    account: variables.CLOUDFLARE_STREAM_ACCOUNT_ID,
    settles: tools.settles,
    lengthRequired: true,
    hints: cloudflareHints(variables.CLOUDFLARE_STREAM_WEBHOOK_SECRET),
    acceptsMaxSize: (maxSize) => maxSize <= maxFormBytes,

    async provision() {
      return { videoId: null, handle: null }
    },

    async find({ id }, { signal }) {
      const url = `${videos}?creator=${encodeURIComponent(id)}`
      const list = await api.result(Type.Array(Listed), { operation: 'find', method: 'GET', url, signal })
      return list.filter(({ creator }) => creator === id).map(({ uid }) => ({ videoId: uid, handle: null }))
    },

    async upload(slot, draft, content, { signal, creating, keep }) {
      try {
        // An upload accepts only the content for which it was created.
        if (slot.videoId !== null) await remove(slot.videoId, signal).catch(ignoreMissing)
        await creating()
        const { videoId, send } = await (content.size === null
          ? uploads.openFormUpload(draft, signal)
          : uploads.openTusUpload(draft, content.size, signal))
        await keep({ videoId, handle: null })
        await send(content)
        await keep({ videoId, handle: received })
      } catch (error) {
        content.stream.destroy()
        throw error
      }
    },

    async status({ videoId, handle }, { signal }) {
      if (videoId === null) return { state: 'awaiting-upload' }
      const { readyToStream, status } = await read(State, 'status', videoId, signal)
      switch (status.state) {
        case 'pendingupload':
          return { state: handle === received ? 'processing' : 'awaiting-upload' }
        case 'downloading':
        case 'queued':
        case 'inprogress':
        case 'live-inprogress':
          return processing(status.pctComplete)
        case 'ready':
          return { state: readyToStream ? 'ready' : 'processing' }
        case 'error':
          return failedBecause(status.errorReasonText || status.errorReasonCode)
        default:
          return unknownState(status.state)
      }
    },

    async info({ videoId }, { signal }) {
      const { playback, input, duration } = await read(Playable, 'info', videoId, signal)
      const { width, height } = input
      const launchUrl = http.publicUrl(playback.hls)
      return { launchUrl, mimeType: 'application/vnd.apple.mpegurl', width, height, duration }
    },

    async thumbnail({ videoId }, { signal }) {
      const { thumbnail, input } = await read(Pictured, 'thumbnail', videoId, signal)
      const { width, height } = thumbnailSize(input)
      const url = new URL(thumbnail)
      url.searchParams.append('width', String(width))
      url.searchParams.append('height', String(height))
      return { url: http.publicUrl(url.href), mimeType: 'image/jpeg', width, height }
    },

    async remove({ videoId }, { signal }) {
      if (videoId !== null) await remove(videoId, signal)
    },

    async checkCredentials(signal) {
      const url = `${videos}?limit=1`
      await api.result(Type.Array(Listed), { operation: 'credentials', method: 'GET', url, signal })
    },

    close: http.close,
  }
}

/**
 * Returns a size in the shape of the video, and at most its size. The vendor crops the image to the requested size
 * (https://developers.cloudflare.com/stream/viewing-videos/displaying-thumbnails/), here by less than a pixel.
 */
function thumbnailSize({ width, height }: Static<typeof Input>) {
  const scale = Math.min(1, thumbnailSide / Math.max(width, height))
  return {
    width: Math.max(1, Math.round(width * scale)),
    height: Math.max(1, Math.round(height * scale)),
  }
}
