import { renameSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { fakeMp4, temporaryDirectory } from '../support/gateway.ts'
import { type GatewayProcess, startProcess } from '../support/process.ts'
import { beginPut } from '../support/raw.ts'

const hour = 3_600_000
const jumps = [
  { ms: -hour, to: 'back by an hour' },
  { ms: hour, to: 'forward by an hour' },
]
/** Long enough for every process to look for due videos, and for leases that nobody renews to run out. */
const severalLooks = 2_500

/** A platform by the true time, and gateways on one database and one clock that can be set. */
async function setUp(t: Test, env: Record<string, string> = {}) {
  const sandbox = await startSandbox({ knobs: { discard: true, processing_delay_ms: 10 } })
  t.teardown(() => sandbox.close())
  const directory = await temporaryDirectory(t)
  const clock = `${directory}/clock`
  /** For all processes in the same instant. */
  const setClock = (ms: number) => {
    writeFileSync(`${clock}.next`, String(ms))
    renameSync(`${clock}.next`, clock)
  }
  setClock(0)
  const variables = {
    SANDBOX_BASE_URL: sandbox.url,
    DATABASE_URL: `sqlite:${directory}/gateway.db`,
    CLOCK_FILE: clock,
    ...env,
  }
  const preload = ['--import', './test/support/shifted-clock.ts']
  const start = (script = 'test/support/crash-gateway.ts') => startProcess(t, variables, ...preload, script)
  return { sandbox, setClock, start }
}

const create = async (gateway: GatewayProcess) =>
  (await gateway.call('POST', '/v1/videos', { title: 'x' })).body.id as string
const put = (gateway: GatewayProcess, id: string) =>
  gateway.call('PUT', `/v1/videos/${id}/content`, fakeMp4(1000))

async function until(gateway: GatewayProcess, id: string, wanted: string) {
  for (const deadline = Date.now() + 20_000; Date.now() < deadline; await sleep(20)) {
    const { body } = await gateway.call('GET', `/v1/videos/${id}/status`)
    if (body.stage === wanted) return
  }
  throw new Error(`never ${wanted}`)
}

/** Begins an upload of 100,000 bytes and waits until half of it is there. */
async function beginUpload(gateway: GatewayProcess, id: string) {
  const connection = await beginPut(gateway.url, id, 100_000)
  connection.write(fakeMp4(50_000))
  while ((await gateway.call('GET', `/v1/videos/${id}`)).body.upload.bytesReceived < 50_000) await sleep(10)
  return connection
}

for (const { ms, to } of jumps) {
  t.test(`after the clock is changed ${to}, every check happens within its limit`, async (t) => {
    const [count, bound] = [24, 4]
    const delay = { POLL_INITIAL_DELAY: '30s', POLL_MAX_DELAY: '30s', POLL_CONCURRENCY: String(bound) }
    // A check ends with its claim: this one is longer than the answers are held back.
    const { sandbox, setClock, start } = await setUp(t, { ...delay, CLAIM: '20000' })
    const gateway = await start()
    const ids = await Promise.all(Array.from({ length: count }, () => create(gateway)))
    await Promise.all(ids.map((id) => put(gateway, id)))
    const asked = sandbox.stats().calls.get
    sandbox.knobs.hold = ['get']
    setClock(ms)
    while (sandbox.stats().held_answers < bound) await sleep(10)
    await sleep(severalLooks)
    t.equal(sandbox.stats().held_answers, bound, 'all are due, so many are asked for')
    for (const id of ids) {
      const { headers } = await gateway.call('GET', `/v1/videos/${id}/status`)
      const wait = Number(headers.get('retry-after'))
      t.ok(wait >= 1 && wait <= 36, `Retry-After: ${wait}`)
    }

    sandbox.knobs.hold = []
    await Promise.all(ids.map((id) => until(gateway, id, 'ready')))
    const checks = sandbox.stats().calls.get - asked
    t.ok(checks >= count && checks <= count + bound, `${checks} checks of ${count} videos`)
    const metrics = (await gateway.call('GET', '/metrics')).body as string
    t.match(metrics, `gateway_processing_duration_seconds_count{platform="sandbox",outcome="ready"} ${count}`)
    t.strictSame(metrics.match(/^gateway_\w+_sum\S* -.*/gm), null, 'no duration is negative')
    t.notMatch(gateway.output(), /"level":[56]0/, 'no error is logged')
    t.comment(`${to}: ${checks} checks of ${count} videos, at most ${bound} at once`)
  })

  t.test(
    `after the clock is changed ${to}, a live upload keeps its lease and a dead one loses it`,
    async (t) => {
      const { setClock, start } = await setUp(t)
      // With leases as in production, which are renewed more seldom than the other process looks.
      const busy = await start('src/server.ts')
      const other = await start('src/server.ts')
      const uploads = []
      for (let count = 0; count < 4; count++, await sleep(800)) {
        const id = await create(busy)
        uploads.push({ id, upload: await beginUpload(busy, id) })
      }
      setClock(ms)
      for (const { id } of uploads) {
        const { status, body } = await other.call('PUT', `/v1/videos/${id}/content`, fakeMp4(1000))
        t.match({ status, body }, { status: 409, body: { code: 'upload-in-progress' } })
      }
      await sleep(severalLooks)
      for (const { upload } of uploads) {
        upload.write(Buffer.alloc(50_000))
        t.match(await upload.rest(), /^HTTP\/1\.1 204 /, 'no process took it for dead')
      }
      t.equal(await busy.kill('SIGTERM'), 0)

      setClock(0)
      const [one, two] = [await start(), await start()]
      const dead = await create(one)
      await beginUpload(one, dead)
      await one.kill('SIGKILL')
      setClock(ms)
      await until(two, dead, 'awaiting-upload')
      t.equal((await put(two, dead)).status, 204)
      await until(two, dead, 'ready')
    },
  )

  t.test(`a slot is returned once although the clock is changed ${to} during its creation`, async (t) => {
    // A creation ends with its claim: this one is longer than the answer is held back.
    const { sandbox, setClock, start } = await setUp(t, { CLAIM: '20000' })
    const [one, two] = [await start(), await start()]
    const keyed = { 'idempotency-key': 'k' }
    sandbox.knobs.hold = ['create']
    const creating = one.call('POST', '/v1/videos', { title: 'x' }, keyed)
    while (sandbox.stats().held_answers === 0) await sleep(10)
    setClock(ms)
    if (ms < 0) {
      const again = await two.call('POST', '/v1/videos', { title: 'x' }, keyed)
      t.match(again, { status: 409, body: { code: 'idempotency-key-in-progress' } })
      t.ok(Number(again.headers.get('retry-after')) <= 60, 'no client has to wait for an hour')
    }
    await sleep(severalLooks)
    sandbox.knobs.hold = []
    const { status, body } = await creating
    t.equal(status, 201)
    t.equal((await put(one, body.id)).status, 204)
    await until(two, body.id, 'ready')
    t.equal(sandbox.stats().calls.create, 1)
    t.equal(sandbox.stats().clips.live, 1)
  })
}

t.test('a platform token expires although the clock is set back', async (t) => {
  const { sandbox, setClock, start } = await setUp(t)
  sandbox.knobs.token_lifetime_s = 2
  const gateway = await start()
  await create(gateway)
  setClock(-hour)
  await sleep(2_200)
  t.equal((await gateway.call('POST', '/v1/videos', { title: 'x' })).status, 201)
  t.equal(sandbox.stats().token_requests, 2)
  const { body } = await gateway.call('GET', '/metrics')
  t.notOk(body.includes('outcome="401"'), 'an expired one was not even tried')
})

t.test('a valid platform token is kept although the clock is set forward', async (t) => {
  const { sandbox, setClock, start } = await setUp(t)
  const gateway = await start()
  await create(gateway)
  setClock(2 * hour)
  t.equal((await gateway.call('POST', '/v1/videos', { title: 'x' })).status, 201)
  t.equal(sandbox.stats().token_requests, 1)
})
