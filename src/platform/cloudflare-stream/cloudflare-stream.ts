import { type Static, type TSchema, Type } from '@sinclair/typebox'
import { GatewayError } from '../../errors.ts'
import {
  failedBecause,
  fits,
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
import { type Content, ignoreMissing, type VideoDraft, type VideoPlatform } from '../platform.ts'
import type { PlatformDefinition, PlatformTools } from '../tools.ts'
import { createTusUpload, uploadByTus } from '../upload/tus.ts'
import { cloudflareApi } from './api.ts'
import { formUpload, maxFormBytes } from './form-upload.ts'
import { cloudflareHints } from './hints.ts'

const name = 'cloudflare-stream'
const vendorUrl = 'https://api.cloudflare.com/client/v4'

/**
 * Adapter of Cloudflare Stream (https://developers.cloudflare.com/api/resources/stream/).
 *
 * The slot is made at the upload. A one-time upload URL with the id in advance (`direct_upload`) takes 200 MB at
 * most; only tus takes any size, and tus wants the size before there is an id. Mixing the two would give small and
 * large files different lives, so all go by tus, except those whose size is not known exactly.
 */
export const cloudflareStream = {
  name,
  variables: Type.Object({
    CLOUDFLARE_STREAM_BASE_URL: Type.String({
      format: 'url',
      default: vendorUrl,
      description: 'base URL of the API',
    }),
    CLOUDFLARE_STREAM_ACCOUNT_ID: Type.String({ minLength: 1, description: 'account that publishes' }),
    CLOUDFLARE_STREAM_API_TOKEN: Type.String({
      minLength: 1,
      description: 'API token with the permission “Stream Write”',
    }),
    CLOUDFLARE_STREAM_WEBHOOK_SECRET: Type.Optional(
      Type.String({
        description:
          'signing secret of the webhook to `/v1/platforms/cloudflare-stream/webhook`; several, comma-separated. Without it the gateway accepts no webhooks',
      }),
    ),
    CLOUDFLARE_STREAM_CHUNK_SIZE: Type.Integer({
      default: 16 * 2 ** 20,
      minimum: 1,
      description:
        'chunk size in bytes; each upload holds one chunk in memory: ' +
        'a multiple of 256 KiB between 5 and 200 MiB',
    }),
    CLOUDFLARE_STREAM_MAX_DURATION: Type.Integer({
      default: 21_600,
      minimum: 1,
      maximum: 36_000,
      description:
        'maximum duration of a video in seconds; each upload reserves as much of the account’s storage until it ends',
    }),
  }),
  create: createCloudflareStream,
} satisfies PlatformDefinition

interface Variables {
  CLOUDFLARE_STREAM_BASE_URL: string
  CLOUDFLARE_STREAM_ACCOUNT_ID: string
  CLOUDFLARE_STREAM_API_TOKEN: string
  CLOUDFLARE_STREAM_WEBHOOK_SECRET?: string
  CLOUDFLARE_STREAM_CHUNK_SIZE: number
  CLOUDFLARE_STREAM_MAX_DURATION: number
}

/** In bytes (https://developers.cloudflare.com/stream/uploading-videos/resumable-uploads/#requirements). */
const chunkRule = { min: 5 * 2 ** 20, max: 200 * 2 ** 20, unit: 256 * 2 ** 10 }
/** The longest that an upload URL may live, less a margin for clocks that differ. Milliseconds. */
const uploadUrlLife = 6 * 3_600_000 - 300_000
/** Longer side of a thumbnail in pixels; the vendor's own default. */
const thumbnailSide = 640
/** The slot's handle once every byte was accepted: a state that lags behind must not look like lost content. */
const received = 'received'

/** An upload that was created: the video, and how its content is sent. */
interface Upload {
  videoId: string
  send(content: Content): Promise<void>
}

const DirectUpload = Type.Object({ uid: Id, uploadURL: Type.String() })
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
/** −1 until they are known, which does not fit. */
const Input = Type.Object({ width: Pixels, height: Pixels })
const Playable = Type.Object({
  uid,
  playback: Type.Object({ hls: Type.String() }),
  input: Input,
  /** −1 until it is known. */
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

  /** An upload of exactly this size. */
  async function openTusUpload(draft: VideoDraft, size: number, signal: AbortSignal): Promise<Upload> {
    const headers = await createTusUpload(http, {
      // Only with this parameter the upload URL needs no token.
      url: `${videos}?direct_user=true`,
      size,
      // Keys as in the guide: /stream/uploading-videos/direct-creator-uploads/#upload-metadata-header-syntax.
      // `requiresignedurls` is left out: it counts by being there.
      metadata: {
        name: draft.title,
        maxDurationSeconds: String(variables.CLOUDFLARE_STREAM_MAX_DURATION),
        expiry: expiry(),
      },
      headers: { 'upload-creator': draft.id },
      signal,
    })
    const videoId = headers['stream-media-id']
    if (!fits(Id, videoId)) throw new GatewayError('platform-protocol-error', `${name} returned no video id`)
    const options = { ...tools.chunks, chunkSize, signal }
    return { videoId, send: (content) => uploadByTus(http, headers.location, content, options) }
  }

  /** An upload of at most 200 MB whose size is open. */
  async function openFormUpload(draft: VideoDraft, signal: AbortSignal): Promise<Upload> {
    const json = {
      maxDurationSeconds: variables.CLOUDFLARE_STREAM_MAX_DURATION,
      creator: draft.id,
      expiry: expiry(),
      meta: { name: draft.title },
    }
    const request = {
      operation: 'provision',
      method: 'POST',
      url: `${videos}/direct_upload`,
      json,
      signal,
    } as const
    const { uid, uploadURL } = await api.result(DirectUpload, request)
    return { videoId: uid, send: (content) => formUpload(http, uploadURL, content, signal) }
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
        // An upload takes only the content that it was made for.
        if (slot.videoId !== null) await remove(slot.videoId, signal).catch(ignoreMissing)
        await creating()
        const { videoId, send } = await (content.size === null
          ? openFormUpload(draft, signal)
          : openTusUpload(draft, content.size, signal))
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

/** When an upload URL that is made now ceases to work. */
function expiry(): string {
  return new Date(Date.now() + uploadUrlLife).toISOString()
}

/** @throws Error that names the variable, if the vendor would reject every upload */
function checkedChunkSize(variables: Variables): number {
  const { CLOUDFLARE_STREAM_BASE_URL: baseUrl, CLOUDFLARE_STREAM_CHUNK_SIZE: size } = variables
  const { min, max, unit } = chunkRule
  const fits = size >= min && size <= max && size % unit === 0
  if (new URL(baseUrl).host === new URL(vendorUrl).host && !fits)
    throw new Error(`CLOUDFLARE_STREAM_CHUNK_SIZE: expected a multiple of ${unit} from ${min} to ${max}`)
  return size
}

/**
 * The video's own shape, and never larger than it. The image is cropped to the size that is asked for
 * (https://developers.cloudflare.com/stream/viewing-videos/displaying-thumbnails/), here by less than a pixel.
 */
function thumbnailSize({ width, height }: Static<typeof Input>) {
  const scale = Math.min(1, thumbnailSide / Math.max(width, height))
  return {
    width: Math.max(1, Math.round(width * scale)),
    height: Math.max(1, Math.round(height * scale)),
  }
}
