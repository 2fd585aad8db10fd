import type { FastifyInstance } from 'fastify'
import { Fault } from './fault.ts'
import { PLAYLIST, POSTER } from './media.ts'
import { requireToken } from './oauth.ts'
import { addClip, type Clip, dropClip, findClip, type Platform } from './platform.ts'
import { ORIGINAL } from './processing.ts'
import { publicUrl } from './urls.ts'

const createSchema = {
  body: {
    type: 'object',
    required: ['name'],
    properties: {
      name: { type: 'string', minLength: 1, maxLength: 200 },
      summary: { type: 'string', maxLength: 5000 },
      external_ref: { type: 'string', minLength: 1, maxLength: 200 },
    },
  },
}

interface Create {
  name: string
  summary?: string
  external_ref?: string
}

type ById = { Params: { id: string } }

/** The API proper: clips and what is known of them, for callers with a token. */
export function clipRoutes(app: FastifyInstance, platform: Platform): void {
  app.addHook('onRequest', requireToken(platform))

  app.post<{ Body: Create }>(
    '/clips',
    { schema: createSchema, config: { operation: 'create' } },
    async (request, reply) => {
      const { name, summary = '', external_ref: externalRef = null } = request.body
      const clip = addClip(platform, { name, summary, externalRef })
      return reply.code(201).header('location', `${platform.url}/clips/${clip.id}`).send(view(clip, platform))
    },
  )

  app.get<{ Querystring: { external_ref?: string } }>(
    '/clips',
    { config: { operation: 'list' } },
    async (request) => {
      const { external_ref: wanted } = request.query
      const clips = [...platform.clips.values()].filter((clip) => !wanted || clip.externalRef === wanted)
      return { clips: clips.map((clip) => view(clip, platform)) }
    },
  )

  app.get<ById>('/clips/:id', { config: { operation: 'get' } }, async (request) =>
    view(findClip(platform, request.params.id), platform),
  )

  app.delete<ById>('/clips/:id', { config: { operation: 'delete' } }, async (request, reply) => {
    await dropClip(platform, findClip(platform, request.params.id))
    return reply.code(204).send()
  })

  app.get<ById>('/clips/:id/media', { config: { operation: 'media' } }, async (request) => {
    const { id, facts } = liveClip(platform, request.params.id)
    const { href, expires_at } = publicUrl(platform, id, PLAYLIST)
    return {
      clip_id: id,
      stream_url: href,
      expires_at,
      stream_mime: 'application/vnd.apple.mpegurl',
      download_url: `${platform.url}/media/${id}/${ORIGINAL}`,
      download_mime: 'video/mp4',
      frame: facts.frame,
      length_ms: facts.length_ms,
    }
  })

  app.get<ById>('/clips/:id/poster', { config: { operation: 'poster' } }, async (request) => {
    const { id, facts } = liveClip(platform, request.params.id)
    return { ...publicUrl(platform, id, POSTER), mime: 'image/jpeg', ...facts.poster }
  })
}

function liveClip(platform: Platform, id: string) {
  const { facts, state } = findClip(platform, id)
  if (!facts) throw new Fault(409, 'not_live', `the clip is ${state}`)
  return { id, facts }
}

function view(clip: Clip, { url }: Platform) {
  return {
    clip_id: clip.id,
    name: clip.name,
    summary: clip.summary,
    external_ref: clip.externalRef,
    state: clip.state,
    progress: clip.progress,
    failure: clip.failure,
    received_bytes: clip.receivedBytes,
    ingest_url: `${url}/ingest/${clip.id}?token=${clip.ingestToken}`,
  }
}
