import type { AddressInfo } from 'node:net'
import fastify from 'fastify'
import { openStore } from '../../src/store/sqlite.ts'
import { announce } from './listening.ts'

/**
 * Fastify with nothing to do: answers what the gateway answers, the same object each time. With a database it reads
 * the row first, which is the least that an answer from the store can cost.
 */
const answer = JSON.parse(process.env.ANSWER as string)
const store = process.env.DATABASE_URL ? openStore(process.env.DATABASE_URL) : undefined
const app = fastify()
app.get<{ Params: { id: string } }>('/v1/videos/:id/status', async ({ params }, reply) => {
  await store?.find(params.id)
  reply.header('retry-after', '2')
  return answer
})
await app.listen({ port: 0 })
announce((app.server.address() as AddressInfo).port)
