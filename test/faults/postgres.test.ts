import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { fakeMp4, startGateway, type TestGateway } from '../support/gateway.ts'
import { type PostgresServer, startPostgres } from '../support/postgres.ts'
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts'

const started = await startPostgres()
const server = started as PostgresServer
const options = { skip: 'unavailable' in started && started.unavailable }
t.teardown(() => server.close?.())

/** Longest time until a call is told that the database is away; twice what it takes, for a slow machine. */
const patienceMs = 5_000

/** Keeps no bytes. What it takes is no real video, so that each one ends with `error`: the poller has seen it. */
async function discardingSandbox(t: Test) {
  const sandbox = await startSandbox({ knobs: { discard: true, processing_delay_ms: 10 } })
  t.teardown(() => sandbox.close())
  return sandbox
}

interface Call {
  status: number
  ms: number
  retryAfter: string | null
}

/** Polls the status of a video, again and again. @returns a function that ends it, with the calls that there were */
function pollOn(gateway: TestGateway, id: string): () => Promise<Call[]> {
  const calls: Call[] = []
  let over = false
  async function run(): Promise<void> {
    while (!over) {
      const begun = performance.now()
      const { status, headers } = await gateway.call('GET', `/v1/videos/${id}/status`)
      calls.push({ status, ms: performance.now() - begun, retryAfter: headers.get('retry-after') })
      await sleep(10)
    }
  }
  const running = run()
  return async () => {
    over = true
    await running
    return calls
  }
}

/** An upload of which the last part is held back until `finish` is called. */
function slowUpload(gateway: TestGateway, id: string) {
  const { promise: held, resolve: finish } = Promise.withResolvers<void>()
  const chunk = fakeMp4(20_000)
  const rest = Buffer.alloc(2_000, 0x5a)
  let over = false
  void held.then(() => {
    over = true
  })
  const body = new ReadableStream({
    async start(controller) {
      controller.enqueue(chunk)
      while (!over) {
        controller.enqueue(rest)
        await Promise.race([held, sleep(50)])
      }
      controller.close()
    },
  })
  return { answer: gateway.put(id, body), finish }
}

async function until(done: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 20_000; !(await done()); await sleep(20))
    if (Date.now() > deadline) throw new Error('it took too long')
}

const isReady = async (gateway: TestGateway) => (await gateway.call('GET', '/health/ready')).status === 200

for (const how of ['kill', 'stop'] as const)
  t.test(
    `a database that goes away (${how}) under uploads and polls costs none of them`,
    options,
    async (t) => {
      const gateway = await startGateway(t, {
        env: { DATABASE_URL: server.newUrl() },
        // Leases run out while the database is away.
        policy: { uploadLease: 1_000 },
      })
      const videos = await Promise.all(Array.from({ length: 20 }, () => gateway.create()))
      const uploads = videos.map(({ id }) => slowUpload(gateway, id))
      for (const { id } of videos) await gateway.until(id, ({ stage }) => stage === 'uploading')
      const stopPolls = videos.map(({ id }) => pollOn(gateway, id))

      await server[how]()
      const away = performance.now()
      await until(async () => !(await isReady(gateway)))
      // One half ends while the database is away, the other when it is back.
      for (const upload of uploads.slice(0, 10)) upload.finish()
      await sleep(2_500)
      const refused = await gateway.call('POST', '/v1/videos', { json: { title: 'x' } })
      t.match(refused, { status: 503, body: { code: 'store-unavailable' } })
      t.ok(refused.headers.get('retry-after'))
      t.ok(performance.now() - away > 2_000, 'longer than the leases')

      await server.start()
      await until(() => isReady(gateway))
      await sleep(1_200)
      for (const upload of uploads.slice(10)) upload.finish()
      t.strictSame(
        (await Promise.all(uploads.map(({ answer }) => answer))).map(({ status }) => status),
        videos.map(() => 204),
        'each upload is acknowledged',
      )
      for (const { id } of videos) await gateway.until(id, ({ status }) => status !== 'pending')
      const calls = (await Promise.all(stopPolls.map((stop) => stop()))).flat()
      t.strictSame(new Set(calls.map(({ status }) => status)), new Set([200, 503]))
      t.ok(calls.every(({ status, retryAfter }) => status === 200 || retryAfter))
      const slowest = Math.max(...calls.map(({ ms }) => ms))
      t.ok(slowest < patienceMs, `${slowest} ms`)
      t.equal(gateway.sandbox.stats().calls.create, 20, 'nothing was made twice')
    },
  )

t.test('a network that drops everything: 503 in time, and back without a restart', options, async (t) => {
  const proxy = await startTcpProxy(t, server.port)
  const url = server.newUrl().replace(`:${server.port}/`, `:${proxy.port}/`)
  const gateway = await startGateway(t, {
    sandbox: await discardingSandbox(t),
    env: { DATABASE_URL: url, DATABASE_POOL: '4' },
    policy: { uploadLease: 1_000 },
  })
  const video = await gateway.create()
  const stopPoll = pollOn(gateway, video.id)
  await sleep(100)
  proxy.hold()
  await until(async () => !(await isReady(gateway)))
  t.equal((await gateway.call('GET', '/health/live')).status, 200)
  const many = await Promise.all(
    Array.from({ length: 30 }, async () => {
      const begun = performance.now()
      const { status } = await gateway.call('GET', `/v1/videos/${video.id}`)
      return { status, ms: performance.now() - begun }
    }),
  )
  t.ok(many.every(({ status }) => status === 503))
  const slowest = Math.max(...many.map(({ ms }) => ms))
  t.ok(slowest < patienceMs, `${slowest} ms, though there are 30 callers and 4 connections`)
  proxy.release()
  await until(() => isReady(gateway))
  t.equal((await gateway.put(video.id, fakeMp4(1000))).status, 204)
  for (let cuts = 0; cuts < 10; cuts++) {
    proxy.cut()
    await sleep(20)
  }
  await until(() => isReady(gateway))
  await gateway.until(video.id, ({ status }) => status !== 'pending')
  const calls = await stopPoll()
  t.ok(Math.max(...calls.map(({ ms }) => ms)) < patienceMs)
})

t.test('a statement that waits for a lock, and a table that is gone', options, async (t) => {
  const url = server.newUrl()
  const schema = new URL(url).searchParams.get('schema')
  const gateway = await startGateway(t, { sandbox: await discardingSandbox(t), env: { DATABASE_URL: url } })
  const video = await gateway.create()
  await server.query(`ALTER TABLE ${schema}.videos RENAME TO lost`)
  t.match(await gateway.call('GET', `/v1/videos/${video.id}`), {
    status: 503,
    body: { code: 'store-unavailable' },
  })
  t.match((await gateway.call('GET', '/health/ready')).status, 503)
  await server.query(`ALTER TABLE ${schema}.lost RENAME TO videos`)
  t.equal((await gateway.call('GET', `/v1/videos/${video.id}`)).status, 200)
  const begun = performance.now()
  const locked = server.query(
    `BEGIN; LOCK TABLE ${schema}.videos IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(3); COMMIT`,
  )
  await sleep(200)
  t.equal((await gateway.call('GET', `/v1/videos/${video.id}`)).status, 503)
  t.ok(performance.now() - begun < patienceMs)
  await locked
  t.equal((await gateway.put(video.id, fakeMp4(1000))).status, 204)
})

/** What happens to the network, and whether a call may hear of it. In the end there is no trace of it. */
const networkFaults: { name: string; happen(network: TcpProxy): void; noticed: boolean }[] = [
  { name: 'every packet takes 50 ms', happen: ({ delay }) => delay(50), noticed: false },
  { name: 'every packet takes 3 s', happen: ({ delay }) => delay(3_000), noticed: true },
  { name: 'connections are half-open', happen: ({ halfOpen }) => halfOpen(), noticed: true },
  { name: 'connections are reset', happen: ({ cut }) => cut('reset'), noticed: true },
  { name: 'connections are closed', happen: ({ cut }) => cut('close'), noticed: true },
  { name: 'the server closes its side', happen: ({ cut }) => cut('server-only'), noticed: true },
]

t.test('networks that delay, half-open, reset and close', options, async (t) => {
  const network = await startTcpProxy(t, server.port)
  const gateway = await startGateway(t, {
    sandbox: await discardingSandbox(t),
    env: {
      DATABASE_URL: server.newUrl().replace(`:${server.port}/`, `:${network.port}/`),
      DATABASE_POOL: '4',
    },
  })
  for (const { name, happen, noticed } of networkFaults)
    await t.test(name, async (t) => {
      const video = await gateway.create()
      const upload = slowUpload(gateway, video.id)
      await gateway.until(video.id, ({ stage }) => stage === 'uploading')
      const stopPoll = pollOn(gateway, video.id)
      happen(network)
      const reads = await Promise.all(
        Array.from({ length: 12 }, async () => {
          const begun = performance.now()
          const { status } = await gateway.call('GET', `/v1/videos/${video.id}`)
          return { status, ms: performance.now() - begun }
        }),
      )
      t.ok(
        reads.every(({ status }) => status === 200 || (noticed && status === 503)),
        JSON.stringify(reads.map(({ status }) => status)),
      )
      t.ok(reads.every(({ ms }) => ms < patienceMs))
      network.delay(0)
      await until(async () => (await gateway.call('GET', `/v1/videos/${video.id}`)).status === 200)
      upload.finish()
      t.equal((await upload.answer).status, 204, 'the upload was not harmed')
      await until(async () => {
        const { status, body } = await gateway.call('GET', `/v1/videos/${video.id}/status`)
        return status === 200 && body.status !== 'pending'
      })
      const calls = await stopPoll()
      t.ok(calls.every(({ status }) => [200, 503].includes(status)))
      t.ok(Math.max(...calls.map(({ ms }) => ms)) < patienceMs)
    })
})

t.test('a pool that is larger than what the server allows', options, async (t) => {
  const url = new URL(server.newUrl())
  await server.query(`CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT 2`)
  await server.query('GRANT CREATE ON DATABASE postgres TO few')
  url.username = 'few'
  url.password = 'few'
  const gateway = await startGateway(t, {
    sandbox: await discardingSandbox(t),
    env: { DATABASE_URL: url.href, DATABASE_POOL: '8' },
  })
  const video = await gateway.create()
  const reads = await Promise.all(
    Array.from({ length: 60 }, async () => {
      const begun = performance.now()
      const { status, headers } = await gateway.call('GET', `/v1/videos/${video.id}`)
      return { status, ms: performance.now() - begun, retryAfter: headers.get('retry-after') }
    }),
  )
  t.ok(reads.some(({ status }) => status === 200))
  t.ok(reads.every(({ status, retryAfter }) => status === 200 || (status === 503 && retryAfter)))
  t.ok(reads.every(({ ms }) => ms < patienceMs))
  await until(() => isReady(gateway))
  await until(async () => (await gateway.put(video.id, fakeMp4(1_000))).status === 204)
})
