import { type Static, Type } from '@sinclair/typebox'
import { GatewayError } from '../../errors.ts'
import {
  fits,
  Id,
  nullish,
  Pixels,
  pathSegment,
  requireSame,
  Seconds,
  unknownStates,
} from '../http/border.ts'
import { createPlatformHttp } from '../http/http.ts'
import { measureImage } from '../http/image-measure.ts'
import { createTokenCache } from '../http/token-cache.ts'
import { ignoreMissing, type VideoDraft, type VideoPlatform } from '../platform.ts'
import type { PlatformDefinition, PlatformTools } from '../tools.ts'
import { apiVideoHints } from './hints.ts'
import { apiVideoLogin } from './login.ts'
import { State, statusFrom } from './status.ts'
import { uploadToApiVideo } from './upload.ts'
import { limitsOf, type Variables, variables } from './variables.ts'

const name = 'api-video'

/** Adapter of api.video (https://docs.api.video/reference). */
export const apiVideo = {
  name,
  variables,
  create: createApiVideo,
} satisfies PlatformDefinition

/** Name of the metadata entry that carries the gateway's id. */
const idKey = 'gateway-id'
/** The slot's handle once bytes were sent: the rest of an earlier upload must not be mixed with a new one. */
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

function pathOf(videoId: string | null): string {
  return `/videos/${pathSegment(name, videoId)}`
}

/** Returns the gateway's id from a video's metadata. */
function ownIdOf({ metadata }: Static<typeof Listed>): string | undefined {
  return metadata?.find(({ key }) => key === idKey)?.value
}

function notAvailableYet(what: string): GatewayError {
  return new GatewayError('platform-protocol-error', `api.video has not provided ${what} yet`)
}
