import { randomUUID } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import fastify from 'fastify'
import { Agent, request } from 'undici'
import { openPair } from '../support/pair.ts'
import { announce } from './listening.ts'

/**
 * The least that a creation over HTTP can do: Fastify, a durable insert, one call to the platform by undici and a durable
 * update. No authentication, no validation, no expectation, no event, no log.
 */
const { TARGET, DATABASE_URL } = process.env as Record<string, string>
const { insert, update } = await openPair(DATABASE_URL as string, 10)
const dispatcher = new Agent()
const app = fastify()
app.post('/v1/videos', async (_request, reply) => {
  const id = randomUUID()
  await insert(id)
  const { body } = await request(`${TARGET}/clips`, {
    dispatcher,
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: 'Bearer bench' },
    body: '{"title":"bench"}',
  })
  const { clip_id: videoId } = (await body.json()) as { clip_id: string }
  await update(id)
  return reply.code(201).send({ id, videoId, stage: 'awaiting-upload' })
})
await app.listen({ port: 0 })
announce((app.server.address() as AddressInfo).port)
