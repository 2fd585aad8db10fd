import t from 'tap'
import { sharedPostgres } from '../support/postgres.ts'

/** Suites of other files once more, over PostgreSQL. `POSTGRES_SUITES=all` takes those too that take long. */
const server = await sharedPostgres()
if ('unavailable' in server) {
  t.test('the suites pass over PostgreSQL', { skip: server.unavailable }, async () => {})
} else {
  process.env.POSTGRES_URL = server.url
  t.jobs = 4
  const suites = [
    'e2e/lifecycle',
    'e2e/races',
    'e2e/idempotency',
    'e2e/status',
    'routes/events',
    'routes/webhooks',
    'events/webhooks',
  ]
  const slow = ['e2e/metadata', 'faults/removal', 'faults/leftovers', 'faults/lanes', 'e2e/hints']
  for (const suite of process.env.POSTGRES_SUITES === 'all' ? [...suites, ...slow] : suites)
    await import(`../${suite}.test.ts`)
  t.teardown(() => server.close())
}
