import { Type } from '@sinclair/typebox'
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
} from '../http/border.ts'
import { createPlatformHttp } from '../http/http.ts'
import { measureImage } from '../http/image-measure.ts'
import { createTokenCache } from '../http/token-cache.ts'
import { ignoreMissing, type Slot, type VideoDraft, type VideoPlatform } from '../platform.ts'
import type { PlatformDefinition, PlatformTools } from '../tools.ts'
import { largestFile, Playlist, VideoFile } from './files.ts'
import { findVideos } from './find.ts'
import { peertubeLogin } from './login.ts'
import { hasNoPicture, hasPendingRenditions, Progress } from './renditions.ts'
import { statesById } from './states.ts'
import { resumableUpload, type Session } from './upload.ts'
import { uploadBusy } from './upload-responses.ts'
import { type Variables, variables } from './variables.ts'

const name = 'peertube'

/**
 * Adapter of PeerTube (https://docs.joinpeertube.org/api-rest-reference.html), tested with 6.3, 7.0 and 8.2.
 * PeerTube requires the size before the slot exists, and assigns the video's id after the upload: until then the slot
 * is an upload session.
 */
export const peertube = {
  name,
  variables,
  create: createPeertube,
} satisfies PlatformDefinition

const ChannelId = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER })
const Me = Type.Object({
  videoChannels: Type.Array(Type.Object({ id: ChannelId }), { minItems: 1 }),
})
const Details = Type.Object({
  uuid: nullish(Id),
  duration: Seconds,
  aspectRatio: nullish(Type.Number()),
  files: Type.Array(VideoFile),
  streamingPlaylists: Type.Array(Playlist),
})
const Images = Type.Object({
  uuid: nullish(Id),
  previewPath: nullish(Type.String()),
  thumbnailPath: nullish(Type.String()),
})

function createPeertube(variables: Variables, tools: PlatformTools): VideoPlatform {
  const baseUrl = variables.PEERTUBE_BASE_URL
  const { PEERTUBE_USERNAME: username, PEERTUBE_PASSWORD: password } = variables
  const login = peertubeLogin({ baseUrl, username, password }, () => http)
  const authorization = createTokenCache(name, login, tools)
  const http = createPlatformHttp({ name, baseUrl, authorization, tools })
  const uploads = resumableUpload(http, tools.chunks)
  const unknownState = unknownStates(name, tools.log)
  let channel = variables.PEERTUBE_CHANNEL_ID

  async function channelId(signal: AbortSignal): Promise<number> {
    const me = { operation: 'channel', method: 'GET', url: '/api/v1/users/me', signal } as const
    channel ??= (await http.json(Me, me)).videoChannels[0]!.id
    return channel
  }

  const removeVideo = (videoId: string, signal: AbortSignal) =>
    http.send({ operation: 'remove', method: 'DELETE', url: pathOf(videoId), signal })

  /** Deletes the content of the slot: the video, or the session that has not become one. */
  async function deleteSlotContent(slot: Slot, signal: AbortSignal): Promise<void> {
    const session = sessionOf(slot)
    const videoId = slot.videoId ?? (session && (await uploads.dropSession(session, signal)))
    if (videoId !== undefined) await removeVideo(videoId, signal)
  }

  return {
    name,
    account: `${username}@${new URL(baseUrl).hostname}`,
    settles: tools.settles,
    lengthRequired: true,
    acceptsMaxSize: () => true,

    async provision(draft) {
      checkLengths(draft)
      return { videoId: null, handle: null }
    },

    async find({ id, title }, { signal }) {
      const found = await findVideos(http, { file: fileOf(id), title }, signal)
      return found.map((videoId) => ({ videoId, handle: null }))
    },

    async upload(slot, draft, content, { signal, creating, keep }) {
      try {
        const size = content.size ?? content.maxSize
        if (size === undefined) throw new GatewayError('length-required')
        await deleteSlotContent(slot, signal).catch(ignoreMissing)
        const video = {
          name: draft.title,
          ...(draft.description && { description: draft.description }),
          channelId: await channelId(signal),
          privacy: variables.PEERTUBE_PRIVACY,
          waitTranscoding: true,
          filename: fileOf(draft.id),
        }
        await creating()
        const session = await uploads.open(video, size, signal)
        const keepSession = (session: Session) => keep({ videoId: null, handle: JSON.stringify(session) })
        await keepSession(session)
        const chunkSize = variables.PEERTUBE_CHUNK_SIZE
        const videoId = await uploads.transfer(session, content, { chunkSize, signal, keep: keepSession })
        await keep({ videoId, handle: null })
      } catch (error) {
        content.stream.destroy()
        throw error
      }
    },

    async status(slot, { signal, keep }) {
      let { videoId } = slot
      if (videoId === null) {
        const session = sessionOf(slot)
        const sessionState = session ? await uploads.querySession(session, signal) : 'gone'
        if (sessionState === 'locked') throw uploadBusy()
        if (sessionState === 'busy') return { state: 'processing' }
        if (sessionState === 'gone' || 'offset' in sessionState) return { state: 'awaiting-upload' }
        videoId = sessionState.video
        await keep({ videoId, handle: null })
      }
      const video = await http.json(Progress, {
        operation: 'status',
        method: 'GET',
        url: pathOf(videoId),
        signal,
      })
      requireSame(name, videoId, video.uuid)
      const { state } = video
      const known = statesById[state.id]
      if (known === 'failed') return failedBecause(`PeerTube reports: ${state.label ?? `state ${state.id}`}`)
      if (known === 'ready' && (await hasPendingRenditions(http, video, signal)))
        return { state: 'processing' }
      if (known === 'ready' && hasNoPicture(video)) return failedBecause('The file has no video track.')
      return known ? { state: known } : unknownState(state.id)
    },

    async info({ videoId }, { signal }) {
      const details = await http.json(Details, {
        operation: 'info',
        method: 'GET',
        url: pathOf(videoId),
        signal,
      })
      requireSame(name, videoId, details.uuid)
      const [playlist] = details.streamingPlaylists
      const best = largestFile(playlist?.files.length ? playlist.files : details.files, details.aspectRatio)
      const launchUrl = playlist?.playlistUrl ?? best?.fileUrl
      if (!launchUrl || !best) throw notAvailableYet('the files of the video')
      if (!fits(Pixels, best.width) || !fits(Pixels, best.height))
        throw notAvailableYet('the size of the video')
      return {
        launchUrl: http.publicUrl(launchUrl),
        mimeType: playlist ? 'application/vnd.apple.mpegurl' : 'video/mp4',
        width: best.width,
        height: best.height,
        duration: details.duration,
      }
    },

    async thumbnail({ videoId }, { signal }) {
      const images = await http.json(Images, {
        operation: 'thumbnail',
        method: 'GET',
        url: pathOf(videoId),
        signal,
      })
      requireSame(name, videoId, images.uuid)
      const path = images.previewPath ?? images.thumbnailPath
      if (!path) throw notAvailableYet('the preview image')
      return measureImage(name, http, path, signal)
    },

    remove: (slot, { signal }) => deleteSlotContent(slot, signal),

    async checkCredentials(signal) {
      const me = { operation: 'credentials', method: 'GET', url: '/api/v1/users/me', signal } as const
      const { videoChannels } = await http.json(Me, me)
      const wanted = variables.PEERTUBE_CHANNEL_ID
      if (wanted !== undefined && !videoChannels.some(({ id }) => id === wanted))
        throw new GatewayError(
          'platform-unauthorized',
          `PEERTUBE_CHANNEL_ID: the account has no channel ${wanted}`,
        )
    },

    close: http.close,
  }
}

/** @throws `platform-rejected` for a length that PeerTube would reject only at the upload (same constants since 1.0) */
function checkLengths({ title, description }: VideoDraft): void {
  const length = (text: string) => [...text].length
  const reject = (field: string, min: number, max: number) => {
    throw new GatewayError(
      'platform-rejected',
      `PeerTube requires a ${field} of ${min} to ${max} characters.`,
    )
  }
  if (length(title.trim()) < 3 || length(title.trim()) > 120) reject('title', 3, 120)
  if (description && (length(description) < 3 || length(description) > 10_000))
    reject('description', 3, 10_000)
}

/** Returns the name of the source file, by which the video is found again. */
function fileOf(id: string): string {
  return `${id}.mp4`
}

function sessionOf({ handle }: Slot): Session | undefined {
  return handle === null ? undefined : JSON.parse(handle)
}

function pathOf(videoId: string | null): string {
  return `/api/v1/videos/${pathSegment(name, videoId)}`
}

function notAvailableYet(what: string): GatewayError {
  return new GatewayError('platform-protocol-error', `peertube has not provided ${what} yet`)
}
