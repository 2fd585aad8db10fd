import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { fakeMp4, startGateway, type TestResponse } from '../support/gateway.ts'
import {
  discardingSandbox,
  isReady,
  patienceMs,
  pollOn,
  slowUpload,
  timed,
  until,
} from '../support/outage.ts'
import { type SharedPostgres, schemaOf, sharedPostgres } from '../support/postgres.ts'
import { type NetworkFault, startTcpProxy } from '../support/tcp-proxy.ts'

/** The network between gateway and database fails, and is back without a restart of either. */
const started = await sharedPostgres()
const server = started as SharedPostgres
const skip = 'unavailable' in started && started.unavailable
t.teardown(() => server.close?.())
// They wait most of the time.
t.jobs = 4

const faults: { fault: NetworkFault; delayMs?: number }[] = [
  { fault: 'drops everything' },
  { fault: 'drops responses' },
  { fault: 'drops requests' },
  { fault: 'half-opens' },
  { fault: 'resets' },
  { fault: 'delays', delayMs: 3_000 },
]

for (const { fault, delayMs } of faults)
  t.test(
    `with a network that ${fault} calls return 503 in time, and no upload is lost`,
    { skip, buffered: true },
    async (t) => {
      const proxy = await startTcpProxy(t, server.port)
      const url = server.newUrl().replace(`:${server.port}/`, `:${proxy.port}/`)
      const gateway = await startGateway(t, {
        sandbox: await discardingSandbox(t),
        env: { DATABASE_URL: url, DATABASE_POOL: '4' },
        policy: { uploadLease: 1_000 },
      })
      const videos = [await gateway.create(), await gateway.create()]
      const [early, late] = videos.map(({ id }) => slowUpload(gateway, id))
      for (const { id } of videos) await gateway.until(id, ({ stage }) => stage === 'uploading')
      const stopPolls = videos.map(({ id }) => pollOn(gateway, id))

      proxy.set(fault, delayMs)
      await until(async () => !(await isReady(gateway)))
      t.equal((await gateway.call('GET', '/health/live')).status, 200)
      const many = await Promise.all(
        Array.from({ length: 30 }, () => timed(gateway, `/v1/videos/${videos[0].id}`)),
      )
      t.strictSame(new Set(many.map(({ status }) => status)), new Set([503]))
      early?.finish()
      // The upload leases expire meanwhile.
      await sleep(1_500)

      proxy.set('none')
      await until(() => isReady(gateway))
      late?.finish()
      t.strictSame([(await early?.answer)?.status, (await late?.answer)?.status], [204, 204])
      for (const { id } of videos) await gateway.until(id, ({ status }) => status !== 'pending')
      const calls = [...many, ...(await Promise.all(stopPolls.map((stop) => stop()))).flat()]
      t.strictSame(new Set(calls.map(({ status }) => status)), new Set([200, 503]))
      t.ok(calls.every(({ status, retryAfter }) => status === 200 || retryAfter))
      const slowest = Math.max(...calls.map(({ ms }) => ms))
      t.ok(slowest < patienceMs, `${slowest} ms, though there are many callers and 4 connections`)
      t.equal(gateway.sandbox.stats().calls.create, 2)
      t.equal(gateway.sandbox.stats().calls.ingest, 2)
    },
  )

t.test(
  'a slow network that keeps interrupting connections only costs time',
  { skip, buffered: true },
  async (t) => {
    const proxy = await startTcpProxy(t, server.port)
    const gateway = await startGateway(t, {
      sandbox: await discardingSandbox(t),
      env: { DATABASE_URL: server.newUrl().replace(`:${server.port}/`, `:${proxy.port}/`) },
      policy: { claim: 5_000, uploadLease: 1_000 },
      tools: { settles: [50, 100] },
    })
    proxy.set('delays', 10)
    let left = 8
    const cuts = setInterval(() => left-- > 0 && proxy.cut(), 500)
    t.teardown(() => clearInterval(cuts))
    const statuses: number[] = []
    const persist = async (wanted: number, call: () => Promise<TestResponse>) => {
      for (let tries = 0; tries < 100; tries++, await sleep(200)) {
        const { status, headers, body } = await call()
        statuses.push(status)
        // An upload can be taken although its response says that its end could not be stored.
        if (status === wanted || body.code === 'content-already-uploaded') return body
        // 504 when the store was away until the claim of the creation had ended.
        if (status !== 409 && status !== 504) t.ok(status === 503 && headers.get('retry-after'), `${status}`)
      }
      throw new Error('the client was never served')
    }
    await Promise.all(
      Array.from({ length: 10 }, async (_, index) => {
        const json = { title: 'News' }
        const headers = { 'idempotency-key': `${index}` }
        const { id } = await persist(201, () => gateway.call('POST', '/v1/videos', { json, headers }))
        await persist(204, () => gateway.put(id, fakeMp4(2_000)))
        await until(async () => {
          const { status, body } = await gateway.call('GET', `/v1/videos/${id}/status`)
          return status === 200 && body.status !== 'pending'
        })
      }),
    )
    clearInterval(cuts)
    t.equal(gateway.sandbox.stats().calls.create, 10)
    t.comment(`${statuses.length} calls for 20`)
  },
)

t.test('with a full pool calls wait, and return 503 in time', { skip, buffered: true }, async (t) => {
  const url = server.newUrl()
  const gateway = await startGateway(t, {
    sandbox: await discardingSandbox(t),
    env: { DATABASE_URL: url, DATABASE_POOL: '2' },
  })
  const { id } = await gateway.create()
  const read = () => timed(gateway, `/v1/videos/${id}`)
  const crowd = await Promise.all(Array.from({ length: 200 }, read))
  t.ok(
    crowd.every(({ status }) => status === 200),
    '200 callers take turns on 2 connections',
  )
  const upload = slowUpload(gateway, id)
  await gateway.until(id, ({ stage }) => stage === 'uploading')
  const lock = server.query(
    `BEGIN; LOCK TABLE ${schemaOf(url)}.videos IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(4); COMMIT`,
  )
  await sleep(200)
  const waiting = await Promise.all(Array.from({ length: 50 }, read))
  t.ok(waiting.every(({ status, retryAfter }) => status === 503 && retryAfter))
  const slowest = Math.max(...waiting.map(({ ms }) => ms))
  t.ok(slowest < patienceMs, `${slowest} ms`)
  await lock
  await until(() => isReady(gateway))
  t.equal((await read()).status, 200)
  upload.finish()
  t.equal((await upload.answer).status, 204)
})
