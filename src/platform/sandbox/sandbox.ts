import { Type } from '@sinclair/typebox'
import { ClientSecretBasic } from 'openid-client'
import { GatewayError } from '../../errors.ts'
import {
  Expiry,
  failedBecause,
  Id,
  Milliseconds,
  nullish,
  Pixels,
  pathSegment,
  processing,
  requireSame,
  unknownStates,
  Word,
} from '../http/border.ts'
import { apiUrl, createPlatformHttp } from '../http/http.ts'
import { clientCredentials } from '../http/oauth.ts'
import { createTokenCache } from '../http/token-cache.ts'
import type { VideoPlatform } from '../platform.ts'
import type { PlatformDefinition, PlatformTools } from '../tools.ts'
import { repeat } from '../upload/chunked-upload.ts'
import { sandboxHints } from './hints.ts'
import { type Variables, variables } from './variables.ts'

/** Adapter of the stand-in platform in `sandbox/`; its README describes the API. */
export const sandbox = {
  name: 'sandbox',
  variables,
  create: createSandbox,
} satisfies PlatformDefinition

const Clip = Type.Object({ clip_id: Id, external_ref: nullish(Type.String()) })
const Clips = Type.Object({ clips: Type.Array(Clip) })
const Ingest = Type.Object({ clip_id: nullish(Id), ingest_url: Type.String(), state: Type.Optional(Word) })
const ClipState = Type.Object({
  clip_id: nullish(Id),
  state: Word,
  /** In percent. */
  progress: Type.Optional(Type.Unknown()),
  failure: Type.Union([Type.Null(), Type.Object({ kind: Word, text: Type.String() })]),
})
const Media = Type.Object({
  clip_id: nullish(Id),
  stream_url: Type.String(),
  /** Null if the URL does not expire. */
  expires_at: nullish(Expiry),
  frame: Type.Object({ w: Pixels, h: Pixels }),
  length_ms: Milliseconds,
})
const Poster = Type.Object({
  href: Type.String(),
  expires_at: nullish(Expiry),
  mime: Type.Union([Type.Literal('image/jpeg'), Type.Literal('image/png')]),
  w: Pixels,
  h: Pixels,
})

/** An interrupted upload holds the clip until the platform notices the interruption. */
class BusyError extends GatewayError {}
const isBusy = (error: unknown) => error instanceof BusyError

function createSandbox(variables: Variables, tools: PlatformTools): VideoPlatform {
  const name = 'sandbox'
  const baseUrl = variables.SANDBOX_BASE_URL
  const login = clientCredentials(() => ({
    http,
    tokenEndpoint: apiUrl(baseUrl, 'oauth/token').href,
    clientId: variables.SANDBOX_CLIENT_ID,
    authentication: ClientSecretBasic(variables.SANDBOX_CLIENT_SECRET),
  }))
  const authorization = createTokenCache(name, login, tools)
  const http = createPlatformHttp({ name, baseUrl, authorization, tools })
  const unknownState = unknownStates(name, tools.log)
  const pathOf = (videoId: string | null) => `/clips/${pathSegment(name, videoId)}`

  /** Returns the clip, once the platform has noticed that an earlier upload was interrupted. */
  async function freeClip(videoId: string | null, signal: AbortSignal) {
    const clip = await http.json(Ingest, { operation: 'upload', method: 'GET', url: pathOf(videoId), signal })
    requireSame(name, videoId, clip.clip_id)
    if (clip.state === 'receiving')
      throw new BusyError('platform-unavailable', 'An earlier upload is still in progress.')
    return clip
  }

  return {
    name,
    account: `${variables.SANDBOX_CLIENT_ID}@${new URL(baseUrl).hostname}`,
    settles: tools.settles,
    hints: sandboxHints(variables.SANDBOX_WEBHOOK_SECRET),
    lengthRequired: variables.SANDBOX_LENGTH_REQUIRED === 'true',

    async provision({ id, title, description }, { signal }) {
      const json = { name: title, summary: description ?? '', external_ref: id }
      const clip = await http.json(Clip, {
        operation: 'provision',
        method: 'POST',
        url: '/clips',
        json,
        signal,
      })
      requireSame(name, id, clip.external_ref)
      return { videoId: clip.clip_id, handle: null }
    },

    async find({ id }, { signal }) {
      const url = `/clips?external_ref=${encodeURIComponent(id)}`
      const { clips } = await http.json(Clips, { operation: 'find', method: 'GET', url, signal })
      return clips
        .filter(({ external_ref }) => external_ref === id)
        .map(({ clip_id }) => ({ videoId: clip_id, handle: null }))
    },

    /** The ingest URL carries a token, so it is asked for when it is needed and kept nowhere. */
    async upload({ videoId }, _draft, { stream, size }, { signal }) {
      try {
        const clip = await repeat({ ...tools.chunks, signal }, isBusy, () => freeClip(videoId, signal))
        await http.send({
          operation: 'upload',
          method: 'PUT',
          url: http.uploadUrl(clip.ingest_url),
          headers: { 'content-type': 'video/mp4' },
          body: stream,
          length: size,
          authorized: false,
          signal,
        })
      } catch (error) {
        stream.destroy()
        throw error
      }
    },

    async status({ videoId }, { signal }) {
      const clip = await http.json(ClipState, {
        operation: 'status',
        method: 'GET',
        url: pathOf(videoId),
        signal,
      })
      requireSame(name, videoId, clip.clip_id)
      switch (clip.state) {
        case 'empty':
        case 'receiving':
          return { state: 'awaiting-upload' }
        case 'live':
          return { state: 'ready' }
        case 'failed':
          return failedBecause(clip.failure?.text)
        case 'queued':
        case 'transcoding':
          return processing(clip.progress)
        default:
          return unknownState(clip.state)
      }
    },

    async info({ videoId }, { signal }) {
      const url = `${pathOf(videoId)}/media`
      const media = await http.json(Media, { operation: 'info', method: 'GET', url, signal })
      requireSame(name, videoId, media.clip_id)
      return {
        launchUrl: http.publicUrl(media.stream_url),
        mimeType: 'application/vnd.apple.mpegurl',
        width: media.frame.w,
        height: media.frame.h,
        duration: media.length_ms / 1000,
        ...validity(media),
      }
    },

    async thumbnail({ videoId }, { signal }) {
      const url = `${pathOf(videoId)}/poster`
      const poster = await http.json(Poster, { operation: 'thumbnail', method: 'GET', url, signal })
      const { href, mime, w, h } = poster
      return { url: http.publicUrl(href), mimeType: mime, width: w, height: h, ...validity(poster) }
    },

    async remove({ videoId }, { signal }) {
      await http.send({ operation: 'remove', method: 'DELETE', url: pathOf(videoId), signal })
    },

    async checkCredentials(signal) {
      const url = '/clips?external_ref=none'
      await http.json(Clips, { operation: 'credentials', method: 'GET', url, signal })
    },

    close: http.close,
  }
}

function validity({ expires_at }: { expires_at?: string | null }): { validUntil?: number } {
  return expires_at ? { validUntil: Date.parse(expires_at) } : {}
}
