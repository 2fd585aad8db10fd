import type { AddressInfo } from 'node:net'
import fastify from 'fastify'
import pg from 'pg'
import { readConnection } from '../../src/store/postgres/connection.ts'
import { statementsFor } from '../../src/store/postgres/statements.ts'
import { openStore } from '../../src/store/sqlite.ts'
import { announce } from './listening.ts'

/**
 * Fastify with nothing to do: answers what the gateway answers, the same object each time. With a database it reads
 * the row first, which is the least that an answer from the store can cost: SQLite by the store, PostgreSQL by `pg` alone.
 */
const answer = JSON.parse(process.env.ANSWER as string)
const find = process.env.DATABASE_URL ? finder(process.env.DATABASE_URL) : undefined
const app = fastify()
app.get<{ Params: { id: string } }>('/v1/videos/:id/status', async ({ params }, reply) => {
  await find?.(params.id)
  reply.header('retry-after', '2')
  return answer
})
await app.listen({ port: 0 })
announce((app.server.address() as AddressInfo).port)

function finder(url: string): (id: string) => Promise<unknown> {
  if (url.startsWith('sqlite:')) return openStore(url).find
  const { config, schema } = readConnection(url)
  const pool = new pg.Pool({ ...config, max: 10 })
  const { find } = statementsFor(schema)
  return (id) => pool.query({ ...find, values: [id] })
}
