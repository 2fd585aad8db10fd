import pg from 'pg'
import t from 'tap'
import { fakeMp4, startGateway } from '../support/gateway.ts'
import { sharedPostgres } from '../support/postgres.ts'

/** How often each call goes to the database, and with which statement. A round trip is what a remote store costs. */
const server = await sharedPostgres()
const unavailable = 'unavailable' in server && server.unavailable

t.test(
  'a call makes as few round trips to PostgreSQL as its commits need',
  { skip: unavailable },
  async (t) => {
    if ('unavailable' in server) return
    t.teardown(() => server.close())
    const { query } = pg.Pool.prototype
    let sent: string[] = []
    pg.Pool.prototype.query = function (this: pg.Pool, ...args: [{ name?: string }]) {
      if (args[0].name) sent.push(args[0].name)
      return Reflect.apply(query, this, args)
    } as typeof query
    t.teardown(() => Object.assign(pg.Pool.prototype, { query }))
    const env = { DATABASE_URL: server.newUrl(), POLL_INITIAL_DELAY: '1h', POLL_MAX_DELAY: '1h' }
    const gateway = await startGateway(t, { env })
    gateway.sandbox.knobs.processing_delay_ms = 3_600_000
    /** What the poller, the search for leftovers, readiness and housekeeping do on their own. */
    const background =
      /^(claim(Due|Ready|Leftover)|claimDelivery|nextDue|nextDelivery.*|ping|clock|counts|foldCounts|expire.*|eventRange|placeEvents|.*[wW]ebhook.*|.*[eE]ndpoint.*|.*[dD]eliver.*)$/
    async function during(work: () => Promise<unknown>): Promise<string[]> {
      sent = []
      await work()
      return sent.filter((name) => !background.test(name))
    }
    let id = ''
    const path = () => `/v1/videos/${id}`
    const key = { 'idempotency-key': 'k' }
    const cases: [string, () => Promise<unknown>, string[]][] = [
      ['creation', async () => ({ id } = await gateway.create()), ['insert', 'updateAlong']],
      [
        'creation with a key',
        () => gateway.call('POST', '/v1/videos', { json: { title: 'x' }, headers: key }),
        ['findKey', 'insertWithKey', 'updateAlong', 'saveResponse'],
      ],
      [
        'repetition with the key',
        () => gateway.call('POST', '/v1/videos', { json: { title: 'x' }, headers: key }),
        ['findKey'],
      ],
      ['retrieval', () => gateway.call('GET', path()), ['find']],
      ['status', () => gateway.call('GET', `${path()}/status`), ['find']],
      ['upload', () => gateway.put(id, fakeMp4(2_000)), ['find', 'updateAlong', 'current', 'updateAlong']],
      ['deletion', () => gateway.call('DELETE', path()), ['find', 'updateAlong', 'find', 'update']],
    ]
    for (const [name, work, statements] of cases) t.strictSame(await during(work), statements, name)

    const video = await gateway.create()
    await gateway.put(video.id, fakeMp4(2_000))
    const { store, wakePoller } = gateway.app.gateway
    const checked = await during(async () => {
      await store.update(video.id, (row, now) => ({ ...row, nextCheckAt: now }))
      wakePoller('sandbox', 0)
      await gateway.until(video.id, ({ checkedAt }) => checkedAt !== null)
    })
    // That there is progress is an event; a check that finds nothing new is a `plan`.
    const made = checked.filter((name) => name !== 'find')
    t.strictSame(
      made,
      ['current', 'update', 'updateAlong'],
      'made due by this test; a check, beside its claim',
    )
  },
)
