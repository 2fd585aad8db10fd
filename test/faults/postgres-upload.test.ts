import t from 'tap'
import { sharedPostgres } from '../support/postgres.ts'

/** The suite of uploads once more, over PostgreSQL: in a file of its own, as its tests measure what others would disturb. */
const server = await sharedPostgres()
if ('unavailable' in server) {
  t.test('uploads work over PostgreSQL', { skip: server.unavailable }, async () => {})
} else {
  process.env.POSTGRES_URL = server.url
  await import('../e2e/upload.test.ts')
  t.teardown(() => server.close())
}
