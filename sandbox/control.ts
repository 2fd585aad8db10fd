import type { FastifyInstance } from 'fastify'
import { defaultKnobs, type Knobs, knobsSchema } from './knobs.ts'
import { type Platform, resetPlatform, statsOf } from './platform.ts'

/** The back door for tests: knobs, counts and a fresh start. No vendor has it, so it asks for no token. */
export function controlRoutes(app: FastifyInstance, platform: Platform): void {
  const { knobs } = platform

  app.get('/_knobs', () => knobs)

  app.put<{ Body: Partial<Knobs> }>('/_knobs', { schema: { body: knobsSchema } }, ({ body }) =>
    Object.assign(knobs, body),
  )

  app.delete('/_knobs', () => Object.assign(knobs, defaultKnobs()))

  app.get('/_stats', () => statsOf(platform))

  app.post('/_revoke', async (_request, reply) => {
    platform.tokens.clear()
    return reply.code(204).send()
  })

  app.post('/_reset', async (_request, reply) => {
    await resetPlatform(platform)
    return reply.code(204).send()
  })
}
