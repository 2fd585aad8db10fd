import type { AddressInfo } from 'node:net'
import fastify from 'fastify'
import { announce } from './listening.ts'

/** Fastify with nothing to do: answers what the gateway answers, the same object each time. */
const answer = JSON.parse(process.env.ANSWER as string)
const app = fastify()
app.get('/v1/videos/:id/status', async (_request, reply) => {
  reply.header('retry-after', '2')
  return answer
})
await app.listen({ port: 0 })
announce((app.server.address() as AddressInfo).port)
