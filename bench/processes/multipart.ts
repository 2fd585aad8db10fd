import type { AddressInfo } from 'node:net'
import multipart from '@fastify/multipart'
import fastify from 'fastify'
import { request as send } from 'undici'
import { announce } from './listening.ts'

/** What one would write first: Fastify and @fastify/multipart in, undici out. */
const target = process.env.TARGET as string
const app = fastify()
await app.register(multipart, { limits: { fileSize: Number.POSITIVE_INFINITY } })

app.post('/', async (request, reply) => {
  const part = await request.file()
  if (!part) return reply.code(400).send()
  const answer = await send(target, {
    method: 'PUT',
    body: part.file,
    headers: { 'content-type': 'video/mp4' },
  })
  await answer.body.dump()
  return reply.code(204).send()
})

await app.listen({ port: 0 })
announce((app.server.address() as AddressInfo).port)
