import { randomUUID, timingSafeEqual } from 'node:crypto'
import { mkdir, open, rename, rm } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Fault } from './fault.ts'
import { applyFault, faultOf } from './faults.ts'
import { type Clip, findClip, type Platform } from './platform.ts'
import { ORIGINAL, processClip } from './processing.ts'

/** The upload: raw bytes to the clip's ingest URL, whose token is the only authorization. */
export function ingestRoutes(app: FastifyInstance, platform: Platform): void {
  // A body of any type stays a stream: the handler reads it, at its own pace.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, _payload, done) => done(null))

  app.put<{ Params: { id: string }; Querystring: { token?: string } }>(
    '/ingest/:id',
    { config: { operation: 'ingest' } },
    async (request, reply) => {
      const clip = admit(platform, request)
      clip.state = 'receiving'
      const receiving = receive(platform, clip, request)
      clip.work = receiving.catch(() => {})
      const discarded = await receiving
      clip.work = processClip(platform, clip, discarded)
      return reply.code(204).send()
    },
  )
}

function admit(
  platform: Platform,
  request: FastifyRequest<{ Params: { id: string }; Querystring: { token?: string } }>,
): Clip {
  if (request.headers.authorization !== undefined) {
    platform.counters.credentials_leaked += 1
    throw new Fault(400, 'credentials_leaked', 'an ingest URL must not be sent credentials')
  }
  const clip = findClip(platform, request.params.id)
  if (!same(request.query.token ?? '', clip.ingestToken)) {
    throw new Fault(403, 'bad_ingest_token', 'this is not the ingest URL of the clip')
  }
  if (clip.state === 'receiving') throw new Fault(409, 'busy', 'an upload is in progress')
  if (clip.state !== 'empty') throw new Fault(409, 'has_content', 'the clip has its content')
  if (platform.knobs.require_length && request.headers['content-length'] === undefined) {
    throw new Fault(411, 'length_required', 'a Content-Length is required')
  }
  return clip
}

/** Writes the body to disk; resolves to whether its bytes were discarded instead. Undone when it fails. */
async function receive(platform: Platform, clip: Clip, request: FastifyRequest): Promise<boolean> {
  const { counters, knobs } = platform
  const discard = knobs.discard
  const hangUp = () => request.raw.destroy()
  clip.gone.signal.addEventListener('abort', hangUp)
  const lost = new AbortController()
  const lose = () => lost.abort()
  request.raw.socket.once('close', lose)
  counters.open_uploads += 1
  // Under a name of its own: the next upload may begin while this one is still being cleaned up.
  const part = join(clip.directory, `${randomUUID()}.part`)
  try {
    await mkdir(clip.directory, { recursive: true })
    await using file = discard ? null : await open(part, 'w')
    for await (const chunk of body(platform, clip, request, lost.signal)) await file?.appendFile(chunk)
    if (!discard) await rename(part, join(clip.directory, ORIGINAL))
    clip.gone.signal.throwIfAborted()
    if (clip.receivedBytes === 0) throw new Fault(422, 'empty_body', 'the upload holds no bytes')
    return discard
  } catch (error) {
    Object.assign(clip, { state: 'empty', receivedBytes: 0 })
    await rm(part, { force: true })
    // The rest of the body is read and discarded: the next request on this connection would wait behind it.
    request.raw.resume()
    throw error
  } finally {
    counters.open_uploads -= 1
    clip.gone.signal.removeEventListener('abort', hangUp)
    request.raw.socket.off('close', lose)
  }
}

/** Yields the chunks of the body, counted, slowed down and interrupted according to the knobs and the next fault. */
async function* body(
  platform: Platform,
  clip: Clip,
  request: FastifyRequest,
  lost: AbortSignal,
): AsyncGenerator<Buffer> {
  const fault = faultOf(request)
  const faultOffset = fault && !fault.late ? (fault.after_bytes ?? 0) : Number.POSITIVE_INFINITY
  for await (const chunk of chunks(request.raw)) {
    clip.receivedBytes += chunk.length
    platform.counters.received_bytes += chunk.length
    if (clip.receivedBytes >= faultOffset) await applyFault(fault!, request)
    const rate = platform.knobs.read_bytes_per_second
    if (rate > 0) await delay((chunk.length / rate) * 1000, undefined, { signal: lost })
    yield chunk
  }
  if (faultOffset !== Number.POSITIVE_INFINITY && clip.receivedBytes < faultOffset)
    await applyFault(fault!, request)
}

// Leaving a plain loop early would destroy the request and its connection, so that no response could be sent.
const chunks = (raw: IncomingMessage) => raw.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>

function same(given: string, expected: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(expected)]
  return a.length === b.length && timingSafeEqual(a, b)
}
