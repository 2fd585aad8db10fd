import { Type } from '@sinclair/typebox'
import { ClientSecretBasic } from 'openid-client'
import { apiUrl, createPlatformHttp } from '../http/http.ts'
import { clientCredentials } from '../http/oauth.ts'
import { createTokenCache } from '../http/token-cache.ts'
import type { VideoPlatform } from '../platform.ts'
import type { PlatformDefinition, PlatformTools } from '../tools.ts'

/** Adapter of the stand-in platform in `sandbox/`; its README describes the API. */
export const sandbox = {
  name: 'sandbox',
  variables: Type.Object({
    SANDBOX_BASE_URL: Type.String({
      format: 'url',
      description: 'where the sandbox platform listens',
      missing:
        'set it to the address of a running sandbox, or leave PLATFORM unset outside production: the gateway then starts one itself',
    }),
    SANDBOX_CLIENT_ID: Type.String({ default: 'sandbox', description: 'its OAuth2 client' }),
    SANDBOX_CLIENT_SECRET: Type.String({
      default: 'sandbox-secret',
      description: 'and that client’s secret',
    }),
    SANDBOX_LENGTH_REQUIRED: Type.Union([Type.Literal('true'), Type.Literal('false')], {
      default: 'false',
      description: '`true`: uploads need their length, as with Mux, PeerTube and Cloudflare Stream',
    }),
  }),
  create: createSandbox,
} satisfies PlatformDefinition

interface Variables {
  SANDBOX_BASE_URL: string
  SANDBOX_CLIENT_ID: string
  SANDBOX_CLIENT_SECRET: string
  SANDBOX_LENGTH_REQUIRED: 'true' | 'false'
}

const Clip = Type.Object({ clip_id: Type.String({ minLength: 1 }) })
const Clips = Type.Object({ clips: Type.Array(Clip) })
const Ingest = Type.Object({ ingest_url: Type.String({ minLength: 1 }) })
const ClipState = Type.Object({
  state: Type.String(),
  failure: Type.Union([Type.Null(), Type.Object({ kind: Type.String(), text: Type.String() })]),
})
/** ISO 8601; null where the URL beside it does not expire. */
const Expiry = Type.Optional(Type.Union([Type.String(), Type.Null()]))
const Media = Type.Object({
  stream_url: Type.String(),
  expires_at: Expiry,
  frame: Type.Object({ w: Type.Integer({ minimum: 1 }), h: Type.Integer({ minimum: 1 }) }),
  length_ms: Type.Number({ minimum: 0 }),
})
const Poster = Type.Object({
  href: Type.String(),
  expires_at: Expiry,
  mime: Type.Union([Type.Literal('image/jpeg'), Type.Literal('image/png')]),
  w: Type.Integer({ minimum: 1 }),
  h: Type.Integer({ minimum: 1 }),
})

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

  return {
    name,
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
      return { videoId: clip.clip_id, handle: null }
    },

    async find({ id }, { signal }) {
      const url = `/clips?external_ref=${encodeURIComponent(id)}`
      const { clips } = await http.json(Clips, { operation: 'find', method: 'GET', url, signal })
      return clips[0] ? { videoId: clips[0].clip_id, handle: null } : null
    },

    /** The ingest URL carries a token, so it is asked for when it is needed and kept nowhere. */
    async upload({ videoId }, _draft, { stream, size }, { signal }) {
      try {
        const url = `/clips/${videoId}`
        const clip = await http.json(Ingest, { operation: 'upload', method: 'GET', url, signal })
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
        url: `/clips/${videoId}`,
        signal,
      })
      switch (clip.state) {
        case 'empty':
        case 'receiving':
          return { state: 'awaiting-upload' }
        case 'live':
          return { state: 'ready' }
        case 'failed':
          return { state: 'failed', message: clip.failure?.text ?? 'the platform gave no reason' }
        case 'queued':
        case 'transcoding':
          return { state: 'processing' }
        default:
          tools.log.warn({ platform: name, state: clip.state }, 'unknown state; taken for processing')
          return { state: 'processing' }
      }
    },

    async info({ videoId }, { signal }) {
      const url = `/clips/${videoId}/media`
      const media = await http.json(Media, { operation: 'info', method: 'GET', url, signal })
      return {
        launchUrl: media.stream_url,
        mimeType: 'application/vnd.apple.mpegurl',
        width: media.frame.w,
        height: media.frame.h,
        duration: media.length_ms / 1000,
        ...validity(media),
      }
    },

    async thumbnail({ videoId }, { signal }) {
      const url = `/clips/${videoId}/poster`
      const poster = await http.json(Poster, { operation: 'thumbnail', method: 'GET', url, signal })
      const { href, mime, w, h } = poster
      return { url: href, mimeType: mime, width: w, height: h, ...validity(poster) }
    },

    async remove({ videoId }, { signal }) {
      await http.send({ operation: 'remove', method: 'DELETE', url: `/clips/${videoId}`, signal })
    },

    async checkCredentials(signal) {
      const url = '/clips?external_ref=none'
      await http.json(Clips, { operation: 'credentials', method: 'GET', url, signal })
    },

    close: http.close,
  }
}

function validity({ expires_at }: { expires_at?: string | null }): { validUntil?: number } {
  const validUntil = Date.parse(expires_at ?? '')
  return Number.isNaN(validUntil) ? {} : { validUntil }
}
