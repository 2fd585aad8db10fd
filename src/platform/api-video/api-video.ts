import { type Static, Type } from '@sinclair/typebox'
import { GatewayError } from '../../errors.ts'
import {
  failedBecause,
  fits,
  Id,
  nullish,
  Pixels,
  pathSegment,
  requireSame,
  Seconds,
  unknownStates,
  Word,
} from '../http/border.ts'
import { createPlatformHttp } from '../http/http.ts'
import { measureImage } from '../http/image-measure.ts'
import { createTokenCache } from '../http/token-cache.ts'
import { ignoreMissing, type ProcessingStatus, type VideoDraft, type VideoPlatform } from '../platform.ts'
import type { PlatformDefinition, PlatformTools } from '../tools.ts'
import { apiVideoHints } from './hints.ts'
import { apiVideoLogin } from './login.ts'
import { uploadToApiVideo } from './upload.ts'

const name = 'api-video'

/** Adapter of api.video (https://docs.api.video/reference). */
export const apiVideo = {
  name,
  variables: Type.Object({
    API_VIDEO_BASE_URL: Type.String({
      format: 'url',
      default: 'https://ws.api.video',
      description: 'base URL of the API; `https://sandbox.api.video` is the vendor’s own sandbox',
    }),
    API_VIDEO_API_KEY: Type.String({ minLength: 1, description: 'API key of the workspace' }),
    API_VIDEO_WEBHOOK_SECRET: Type.Optional(
      Type.String({
        description:
          '`signatureSecret` of a webhook to `/v1/platforms/api-video/webhook`; several, comma-separated. Without it the gateway accepts no webhooks',
      }),
    ),
    API_VIDEO_PART_SIZE: Type.Integer({
      default: 16 * 2 ** 20,
      minimum: 1,
      description: 'size in bytes of a part of an upload in parts; api.video accepts at least 5 MiB',
    }),
    API_VIDEO_SINGLE_MAX: Type.Integer({
      default: 200 * 2 ** 20,
      minimum: 0,
      description:
        'size in bytes up to which a file is sent in one request; api.video accepts at most 200 MiB',
    }),
  }),
  create: createApiVideo,
} satisfies PlatformDefinition

interface Variables {
  API_VIDEO_BASE_URL: string
  API_VIDEO_API_KEY: string
  API_VIDEO_WEBHOOK_SECRET?: string
  API_VIDEO_PART_SIZE: number
  API_VIDEO_SINGLE_MAX: number
}

/** Name of the metadata entry that carries the gateway's id. */
const idKey = 'gateway-id'
/** The smallest part that api.video takes, and the longest single request, in bytes (guide "Progressive upload"). */
const smallestPart = 5 * 2 ** 20
const largestSingle = 200 * 2 ** 20
/** The slot's handle from the moment bytes were sent: what an earlier upload left may not be mixed with a new one. */
const uploadStarted = 'upload-started'

const Entry = Type.Object({ key: Type.String(), value: Type.String() })
const Listed = Type.Object({ videoId: Id, metadata: Type.Optional(Type.Array(Entry)) })
const List = Type.Object({ data: Type.Array(Listed) })
const Video = Type.Object({
  videoId: nullish(Id),
  assets: Type.Object({
    hls: nullish(Type.String()),
    mp4: nullish(Type.String()),
    thumbnail: nullish(Type.String()),
  }),
})
const Quality = Type.Object({ status: Word })
/** Judged once the video is ready. */
const Metadata = Type.Object({
  width: nullish(Type.Number()),
  height: nullish(Type.Number()),
  duration: nullish(Type.Number()),
})
const State = Type.Object({
  ingest: Type.Union([Type.Object({ status: nullish(Word) }), Type.Null()]),
  encoding: nullish(
    Type.Object({
      playable: nullish(Type.Boolean()),
      qualities: nullish(Type.Array(Quality)),
      metadata: nullish(Metadata),
    }),
  ),
})

function createApiVideo(variables: Variables, tools: PlatformTools): VideoPlatform {
  const baseUrl = variables.API_VIDEO_BASE_URL
  const limits = limitsOf(variables)
  const login = apiVideoLogin(variables.API_VIDEO_API_KEY, () => http)
  const authorization = createTokenCache(name, login, tools)
  const http = createPlatformHttp({
    name,
    baseUrl,
    authorization,
    uploadHosts: ['*.api.video'],
    // https://docs.api.video/reference/too-many-requests
    resetHeader: 'x-ratelimit-retry-after',
    tools,
  })

  const provision = async ({ id, title, description }: VideoDraft, signal: AbortSignal) => {
    const json = {
      title,
      ...(description !== null && { description }),
      metadata: [{ key: idKey, value: id }],
    }
    const created = await http.json(Listed, {
      operation: 'provision',
      method: 'POST',
      url: '/videos',
      json,
      signal,
    })
    requireSame(name, id, ownIdOf(created))
    return { videoId: created.videoId, handle: null }
  }

  const remove = (videoId: string, signal: AbortSignal) =>
    http.send({ operation: 'remove', method: 'DELETE', url: pathOf(videoId), signal })

  const read = (operation: string, videoId: string | null, signal: AbortSignal) =>
    http.json(State, { operation, method: 'GET', url: `${pathOf(videoId)}/status`, signal })

  const assets = async (operation: string, videoId: string | null, signal: AbortSignal) => {
    const video = await http.json(Video, { operation, method: 'GET', url: pathOf(videoId), signal })
    requireSame(name, videoId, video.videoId)
    return video.assets
  }
  const unknownState = unknownStates(name, tools.log)

  /** Returns the gateway's id of a video; undefined for a video that the gateway did not create. */
  const ownId = async (videoId: string, signal: AbortSignal) => {
    const request = { operation: 'hint', method: 'GET', url: pathOf(videoId), signal } as const
    const video = await http.json(Listed, request).catch(ignoreMissing)
    return video && ownIdOf(video)
  }

  return {
    name,
    account: new URL(baseUrl).hostname,
    settles: tools.settles,
    lengthRequired: false,
    hints: apiVideoHints(variables.API_VIDEO_WEBHOOK_SECRET, ownId),

    provision: (draft, { signal }) => provision(draft, signal),

    async find({ id }, { signal }) {
      const url = `/videos?metadata[${idKey}]=${encodeURIComponent(id)}`
      const { data } = await http.json(List, { operation: 'find', method: 'GET', url, signal })
      return data.filter((video) => ownIdOf(video) === id).map(({ videoId }) => ({ videoId, handle: null }))
    },

    async upload(slot, draft, content, { signal, creating, keep }) {
      let { videoId } = slot
      try {
        if (slot.handle === uploadStarted && videoId !== null) {
          await remove(videoId, signal).catch(ignoreMissing)
          videoId = null
        }
        if (videoId === null) {
          await creating()
          videoId = (await provision(draft, signal)).videoId
        }
        await keep({ videoId, handle: uploadStarted })
        await uploadToApiVideo(http, {
          videoId,
          path: pathOf(videoId),
          content,
          limits,
          retryPolicy: tools.chunks,
          signal,
        })
      } catch (error) {
        content.stream.destroy()
        throw error
      }
    },

    async status({ videoId }, { signal }) {
      return statusFrom(await read('status', videoId, signal), unknownState)
    },

    async info({ videoId }, { signal }) {
      const { hls, mp4 } = await assets('info', videoId, signal)
      const { encoding } = await read('info', videoId, signal)
      const { width, height, duration } = encoding?.metadata ?? {}
      const launchUrl = hls ?? mp4
      if (!launchUrl || !fits(Pixels, width) || !fits(Pixels, height) || !fits(Seconds, duration))
        throw notAvailableYet('the size, duration or URL of the video')
      return {
        launchUrl: http.publicUrl(launchUrl),
        mimeType: hls ? 'application/vnd.apple.mpegurl' : 'video/mp4',
        width,
        height,
        duration,
      }
    },

    async thumbnail({ videoId }, { signal }) {
      const { thumbnail } = await assets('thumbnail', videoId, signal)
      if (!thumbnail) throw notAvailableYet('the thumbnail')
      return measureImage(name, http, thumbnail, signal)
    },

    async remove({ videoId }, { signal }) {
      if (videoId !== null) await remove(videoId, signal)
    },

    async checkCredentials(signal) {
      await http.json(List, { operation: 'credentials', method: 'GET', url: '/videos?pageSize=1', signal })
    },

    close: http.close,
  }
}

/**
 * The composed state: `playable` counts before the words, since some qualities may still be encoded then. The words are
 * those of the API document, the two of a merge those of the guide
 * (https://docs.api.video/vod/show-video-upload-status), and `missing` is of older versions of the document. Nothing
 * written tells of `error`.
 */
function statusFrom(
  { ingest, encoding }: Static<typeof State>,
  unknownState: (state: string) => ProcessingStatus,
): ProcessingStatus {
  const qualities = encoding?.qualities ?? []
  if (encoding?.playable) return { state: 'ready' }
  if (qualities.length > 0 && qualities.every(({ status }) => status === 'failed'))
    return failedBecause('api.video could not encode the video in any quality')
  const state = ingest?.status ?? 'missing'
  switch (state) {
    case 'missing':
    case 'uploading':
      return { state: 'awaiting-upload' }
    case 'error':
      return failedBecause('api.video could not ingest the file')
    case 'last_chunck_uploaded':
    case 'merging':
    case 'uploaded':
    case 'ingesting':
    case 'ingested':
      return { state: 'processing' }
    default:
      return unknownState(state)
  }
}

/** The vendor's own limits hold wherever the adapter speaks to the vendor; a double may have smaller ones. */
function limitsOf({ API_VIDEO_BASE_URL, API_VIDEO_PART_SIZE, API_VIDEO_SINGLE_MAX }: Variables) {
  const vendor = new URL(API_VIDEO_BASE_URL).hostname.endsWith('.api.video')
  if (vendor && API_VIDEO_PART_SIZE < smallestPart)
    throw new Error(
      `API_VIDEO_PART_SIZE: must be at least ${smallestPart} bytes, the smallest part that api.video accepts`,
    )
  if (vendor && API_VIDEO_SINGLE_MAX > largestSingle)
    throw new Error(
      `API_VIDEO_SINGLE_MAX: must be at most ${largestSingle} bytes, the most that api.video accepts in one request`,
    )
  return { single: API_VIDEO_SINGLE_MAX, part: API_VIDEO_PART_SIZE }
}

function pathOf(videoId: string | null): string {
  return `/videos/${pathSegment(name, videoId)}`
}

/** The gateway's id in a video's metadata. */
function ownIdOf({ metadata }: Static<typeof Listed>): string | undefined {
  return metadata?.find(({ key }) => key === idKey)?.value
}

function notAvailableYet(what: string): GatewayError {
  return new GatewayError('platform-protocol-error', `api.video has not provided ${what} yet`)
}
