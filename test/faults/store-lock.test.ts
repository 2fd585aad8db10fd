import { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import { fakeMp4, temporaryDirectory } from '../support/gateway.ts'
import { type GatewayProcess, startProcess } from '../support/process.ts'
import { beginPut } from '../support/raw.ts'

/** Gateways on one database file, and a way to hold its lock from outside. */
async function setUp(t: Test, count = 1, script = 'src/server.ts') {
  const sandbox: Sandbox = await startSandbox({ knobs: { discard: true, processing_delay_ms: 10 } })
  t.teardown(() => sandbox.close())
  const file = `${await temporaryDirectory(t)}/gateway.db`
  const env = { SANDBOX_BASE_URL: sandbox.url, DATABASE_URL: `sqlite:${file}`, RATE_LIMIT: '100000' }
  const gateways = [await startProcess(t, env, script)]
  while (gateways.length < count) gateways.push(await startProcess(t, env, script))
  const other = new DatabaseSync(file)
  t.teardown(() => other.close())
  return {
    sandbox,
    gateways: gateways as [GatewayProcess, ...GatewayProcess[]],
    other,
    /** Waits if a gateway is writing. */
    hold() {
      other.exec('PRAGMA busy_timeout = 10000; BEGIN IMMEDIATE')
      return () => other.exec('COMMIT')
    },
  }
}

const create = (gateway: GatewayProcess) => gateway.call('POST', '/v1/videos', { title: 'x' })
const put = (gateway: GatewayProcess, id: string) =>
  gateway.call('PUT', `/v1/videos/${id}/content`, fakeMp4(1000))

async function until(gateway: GatewayProcess, id: string, wanted: string) {
  for (const deadline = Date.now() + 20_000; Date.now() < deadline; await sleep(20)) {
    const { body } = await gateway.call('GET', `/v1/videos/${id}/status`)
    if (body.stage === wanted) return
  }
  throw new Error(`never ${wanted}`)
}

t.test('while another process holds the lock, everything except writes continues', async (t) => {
  const { gateways, hold } = await setUp(t)
  const [gateway] = gateways
  const { body: video } = await create(gateway)
  const release = hold()
  let waiting = 30
  const creations = Array.from({ length: waiting }, () => create(gateway).finally(() => waiting--))
  let reads = 0
  while (waiting > 0) {
    const path = ['/health/live', `/v1/videos/${video.id}`, '/v1/videos', '/metrics'][reads % 4] as string
    t.equal((await gateway.call('GET', path)).status, 200)
    reads++
  }
  for (const answer of await Promise.all(creations)) {
    t.match(answer, { status: 503, body: { code: 'store-unavailable' } })
    t.ok(Number(answer.headers.get('retry-after')) >= 1)
  }
  // A loop that each write stops answers once or twice in between.
  t.ok(reads > 90, `${reads} reads while 30 creations waited`)

  const first = await Promise.race([
    Promise.all(creations.map(() => create(gateway))),
    sleep(1_500).then(() => 'slow'),
  ])
  t.not(first, 'slow', 'a lock that was found held is remembered')
  t.match(await gateway.call('GET', '/health/ready'), {
    status: 503,
    body: { reason: /database is locked/ },
  })
  release()
  t.equal((await gateway.call('GET', '/health/ready')).status, 200, 'it comes back')
  t.equal((await create(gateway)).status, 201)
  t.comment(`${reads} reads while 30 creations waited`)
})

const calls: Record<string, (gateway: GatewayProcess, id: string) => Promise<{ status: number }>> = {
  'POST /v1/videos': create,
  'POST /v1/videos with a key': (gateway) =>
    gateway.call('POST', '/v1/videos', { title: 'x' }, { 'idempotency-key': 'k' }),
  'PUT content': put,
  'DELETE /v1/videos/{id}': (gateway, id) => gateway.call('DELETE', `/v1/videos/${id}`),
}

t.test('a lock that is held for a second delays a call without failing it', async (t) => {
  const { gateways, hold, sandbox } = await setUp(t)
  const [gateway] = gateways
  const ids: string[] = []
  for (const _ of Object.keys(calls)) ids.push((await create(gateway)).body.id)
  const release = hold()
  const answers = Object.entries(calls).map(([what, call], index) => ({
    what,
    answer: call(gateway, ids[index] as string),
  }))
  await sleep(1_000)
  release()
  for (const { what, answer } of answers) t.match(await answer, { status: /^20[14]$/ }, what)
  t.equal(sandbox.stats().calls.create, ids.length + 2)
  t.notMatch(gateway.output(), /"level":[56]0/, 'no error is logged')
})

t.test('a lock that is held for a moment fails no call of the webhooks', async (t) => {
  const { gateways, hold } = await setUp(t)
  const [{ call }] = gateways
  const add = async () => (await call('POST', '/v1/webhooks', { url: 'http://localhost:9/' })).body
  const [one, gone] = [await add(), await add()]
  const path = `/v1/webhooks/${one.id}`
  const { body: test } = await call('POST', `${path}/test`)
  const release = hold()
  const calls = [
    call('POST', '/v1/webhooks', { url: 'http://localhost:9/other' }),
    call('PATCH', path, { description: 'x' }),
    call('POST', `${path}/secret`),
    call('POST', `${path}/test`),
    call('POST', `${path}/deliveries/${test.eventId}/resend`),
    call('POST', `${path}/deliveries/resend`, { since: '2026-01-01T00:00:00Z' }),
    call('DELETE', `/v1/webhooks/${gone.id}`),
  ]
  await sleep(300)
  release()
  const statuses = (await Promise.all(calls)).map(({ status }) => status)
  t.strictSame(statuses, [201, 200, 200, 202, 202, 202, 204])
  t.match((await call('GET', path)).body, { description: 'x', version: 3 })
})

t.test('a result of the platform is stored even after a long lock', async (t) => {
  const { gateways, hold, sandbox } = await setUp(t)
  const [gateway] = gateways
  const [video, removed] = [(await create(gateway)).body, (await create(gateway)).body]
  const upload = await beginPut(gateway.url, video.id, 2_000)
  upload.write(fakeMp4(1_000))
  await until(gateway, video.id, 'uploading')
  sandbox.knobs.hold = ['create', 'delete']
  const creating = create(gateway)
  const removing = gateway.call('DELETE', `/v1/videos/${removed.id}`)
  while (sandbox.stats().held_answers < 2) await sleep(10)

  const release = hold()
  sandbox.knobs.hold = []
  upload.write(Buffer.alloc(1_000))
  // Longer than a caller without a result waits.
  await sleep(3_000)
  release()
  t.match(await upload.rest(), /^HTTP\/1\.1 204 /, 'the end of an upload')
  t.equal((await creating).status, 201, 'a slot')
  t.equal((await removing).status, 204, 'a removal')
  t.equal((await gateway.call('GET', `/v1/videos/${removed.id}`)).status, 410)
  await until(gateway, video.id, 'ready')
  t.equal(sandbox.stats().calls.ingest, 1)
})

t.test('live uploads continue although their leases expire while the lock is held', async (t) => {
  // Leases of 600 ms.
  const { gateways, hold } = await setUp(t, 2, 'test/support/crash-gateway.ts')
  const uploads = []
  for (const gateway of gateways) {
    const { body: video } = await create(gateway)
    const connection = await beginPut(gateway.url, video.id, 2_000)
    connection.write(fakeMp4(1_000))
    await until(gateway, video.id, 'uploading')
    uploads.push(connection)
  }
  const release = hold()
  await sleep(1_500)
  release()
  await sleep(1_000)
  for (const upload of uploads) {
    upload.write(Buffer.alloc(1_000))
    t.match(await upload.rest(), /^HTTP\/1\.1 204 /)
  }
})

t.test('three gateways write to one file concurrently, and every call succeeds', async (t) => {
  const { gateways, sandbox } = await setUp(t, 3)
  const count = 30
  const videos = await Promise.all(
    gateways.flatMap((gateway) => Array.from({ length: count }, () => create(gateway))),
  )
  t.strictSame(
    videos.filter(({ status }) => status !== 201).map(({ body }) => body),
    [],
  )
  const puts = videos.map(({ body }, index) => put(gateways[index % 3] as GatewayProcess, body.id))
  t.strictSame(
    (await Promise.all(puts)).filter(({ status }) => status !== 204).map(({ body }) => body),
    [],
  )
  await Promise.all(videos.map(({ body }) => until(gateways[0], body.id, 'ready')))
  t.equal(sandbox.stats().clips.live, 3 * count)
  for (const gateway of gateways) t.notMatch(gateway.output(), /"level":[456]0/, 'nothing to complain about')
})

t.test('long reads and a backup do not block the gateway', async (t) => {
  const { gateways, other } = await setUp(t)
  const [gateway] = gateways
  await create(gateway)
  other.exec('BEGIN; SELECT count(*) FROM videos')
  t.equal((await create(gateway)).status, 201)
  t.equal((await gateway.call('GET', '/health/ready')).status, 200)
  other.exec('COMMIT')
})
