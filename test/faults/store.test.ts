import { spawnSync } from 'node:child_process'
import { statSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { openStore } from '../../src/store/sqlite.ts'
import { fakeMp4, startGateway, temporaryDirectory } from '../support/gateway.ts'
import { startProcess } from '../support/process.ts'
import { aVideo } from '../support/video.ts'

t.test('while another process locks the database, writes return 503 and reads continue', async (t) => {
  const file = `${await temporaryDirectory(t)}/gateway.db`
  const gateway = await startGateway(t, { env: { DATABASE_URL: `sqlite:${file}` } })
  const video = await gateway.create()
  const locker = new DatabaseSync(file)
  locker.exec('BEGIN IMMEDIATE')
  t.match(await gateway.call('POST', '/v1/videos', { json: { title: 'x' } }), {
    status: 503,
    body: { code: 'store-unavailable' },
  })
  t.match(await gateway.call('GET', `/v1/videos/${video.id}`), { status: 200, body: { id: video.id } })
  t.equal((await gateway.call('GET', '/health/ready')).status, 503)
  t.equal((await gateway.call('GET', '/health/live')).status, 200)
  locker.exec('COMMIT')
  locker.close()
  t.equal((await gateway.call('GET', '/health/ready')).status, 200, 'without a restart')
  t.equal((await gateway.put(video.id, fakeMp4(1000))).status, 204)
  t.equal(gateway.sandbox.stats().calls.create, 1, 'nothing was provisioned that could not be stored')
})

t.test(
  'with a full disk writes fail without orphans or corruption, and succeed once there is room',
  async (t) => {
    const sandbox = await startSandbox({ knobs: { discard: true, processing_delay_ms: 10 } })
    t.teardown(() => sandbox.close())
    const file = `${await temporaryDirectory(t)}/gateway.db`
    const gateway = await startProcess(t, {
      SANDBOX_BASE_URL: sandbox.url,
      DATABASE_URL: `sqlite:${file}`,
    })
    const { body: video } = await gateway.call('POST', '/v1/videos', { title: 'before' })
    // A file size limit stands for the full disk: to the process both are a write that fails.
    const limit = (bytes: string) =>
      spawnSync('prlimit', ['--pid', String(gateway.child.pid), `--fsize=${bytes}`]).status
    t.equal(limit('50000:'), 0)
    let answer = { status: 201, body: {} }
    for (let tries = 0; answer.status === 201 && tries < 200; tries++)
      answer = await gateway.call('POST', '/v1/videos', {
        title: 'x'.repeat(150),
        description: 'x'.repeat(5000),
      })
    t.match(answer, { status: 503, body: { code: 'store-unavailable' } })
    t.equal((await gateway.call('GET', '/health/ready')).status, 503)
    t.equal((await gateway.call('GET', `/v1/videos/${video.id}`)).status, 200)
    for (const room of [5_000, 10_000]) {
      t.equal(limit(`${statSync(`${file}-wal`).size + room}:`), 0)
      t.equal((await gateway.call('GET', '/health/ready')).status, 503, 'room for a page, not for a video')
    }
    t.equal(limit('unlimited:'), 0)
    for (let tries = 0; tries < 100 && (await gateway.call('GET', '/health/ready')).status !== 200; tries++)
      await sleep(50)
    t.equal((await gateway.call('POST', '/v1/videos', { title: 'after' })).status, 201)
    const { body } = await gateway.call('GET', '/v1/videos?limit=200')
    t.equal(sandbox.stats().clips.empty, body.items.length, 'the platform holds what the store knows')
    t.equal(await gateway.kill('SIGTERM'), 0)
    const db = new DatabaseSync(file)
    t.same({ ...db.prepare('PRAGMA integrity_check').get() }, { integrity_check: 'ok' })
    db.close()
  },
)

t.test('a failed cleanup of old keys is logged as a warning and retried', async (t) => {
  const file = `${await temporaryDirectory(t)}/gateway.db`
  const env = { SANDBOX_BASE_URL: 'http://127.0.0.1:1', DATABASE_URL: `sqlite:${file}` }
  const gateway = await startProcess(t, env, 'test/support/fast-clock-gateway.ts')
  const db = new DatabaseSync(file)
  const keys = () => db.prepare('SELECT key FROM idempotency_keys').all()
  const locker = new DatabaseSync(file, { timeout: 10_000 })
  locker.exec('BEGIN IMMEDIATE')
  while (!/could not delete old idempotency keys/.test(gateway.output())) {
    if (gateway.child.exitCode !== null) throw new Error(gateway.output())
    await sleep(20)
  }
  locker.exec("INSERT INTO idempotency_keys VALUES ('test', 'old', '', '', NULL, 1); COMMIT")
  while (keys().length > 0) await sleep(20)
  t.equal((await gateway.call('GET', '/health/ready')).status, 200)
  t.equal(await gateway.kill('SIGTERM'), 0)
  for (const connection of [db, locker]) connection.close()
})

t.test('old keys, deliveries and deleted videos are removed in small batches from startup on', async (t) => {
  const file = `${await temporaryDirectory(t)}/gateway.db`
  await openStore(`sqlite:${file}`).close()
  const db = new DatabaseSync(file)
  t.teardown(() => db.close())
  const now = Date.now()
  db.exec(`INSERT INTO idempotency_keys
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
    SELECT 'test', 'key-' || i, '', 'video-' || i, NULL, iif(i > 9990, ${now}, 1) FROM n`)
  const add = db.prepare('INSERT INTO videos (id, document) VALUES (?, ?)')
  const days = (ages: number) => ({ stage: 'deleted', updatedAt: now - ages * 24 * 3_600_000 }) as const
  const [old, young] = [aVideo(days(91)), aVideo(days(89))]
  for (const video of [old, young, ...Array.from({ length: 500 }, () => aVideo(days(100)))])
    add.run(video.id, JSON.stringify(video))
  db.exec(`INSERT INTO webhook_endpoints (id, slot, document, enabled, beginsAfter, version) VALUES ('e', 1, '{}', 0, 0, 1);
    INSERT INTO webhook_deliveries (endpointId, eventId, type, status, attempts, createdAt, nextAttemptAt, lastAttemptAt)
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 600)
    SELECT iif(i > 550, 'gone', 'e'), i, 'webhook.test', iif(i > 510, 'pending', 'failed'), 1, 1, 1,
      ${now} - iif(i > 500, 29, 31) * 24 * 3600000 FROM n`)
  const deliveries = () => Number(db.prepare('SELECT count(*) AS n FROM webhook_deliveries').get()?.n)
  const keys = () => Number(db.prepare('SELECT count(*) AS n FROM idempotency_keys').get()?.n)
  const videos = () => Number(db.prepare('SELECT count(*) AS n FROM videos').get()?.n)
  const gateway = await startGateway(t, { env: { DATABASE_URL: `sqlite:${file}` } })
  const seen: number[] = []
  for (const deadline = Date.now() + 20_000; keys() > 10 && Date.now() < deadline; ) {
    t.equal((await gateway.call('GET', '/health/live')).status, 200)
    seen.push(keys())
  }
  t.equal(keys(), 10, 'young ones stay')
  t.ok(new Set(seen).size > 5, 'other calls are answered between the batches')
  for (const deadline = Date.now() + 20_000; videos() > 1 && Date.now() < deadline; ) await sleep(10)
  for (const deadline = Date.now() + 20_000; deliveries() > 50 && Date.now() < deadline; ) await sleep(10)
  t.equal(deliveries(), 50, 'those that wait, and young ones, stay')
  const status = async ({ id }: { id: string }) => (await gateway.call('GET', `/v1/videos/${id}`)).status
  t.strictSame([await status(young), await status(old)], [410, 404])
})

t.test('without the database, /metrics still reports what the process itself knows', async (t) => {
  const file = `${await temporaryDirectory(t)}/gateway.db`
  const gateway = await startGateway(t, { env: { DATABASE_URL: `sqlite:${file}` } })
  await gateway.create()
  const metrics = () => gateway.call('GET', '/metrics')
  t.match((await metrics()).body, /^gateway_videos\{stage="awaiting-upload"\} 1\n/m)
  t.match((await metrics()).body, /^gateway_videos\{stage="ready"\} 0\n/m, 'every stage has its figure')
  const other = new DatabaseSync(file)
  other.exec('ALTER TABLE videos RENAME TO lost')
  t.equal((await gateway.call('GET', '/v1/videos')).status, 503)
  const { status, body } = await metrics()
  t.equal(status, 200)
  t.match(body, /^gateway_uploads_in_progress 0$/m)
  t.match(body, /^gateway_http_request_duration_seconds_count\{.*status="503"\} 1$/m)
  t.notMatch(body, /^gateway_videos\{/m)
  other.exec('ALTER TABLE lost RENAME TO videos')
  other.close()
  t.match((await metrics()).body, /^gateway_videos\{stage="awaiting-upload"\} 1\n/m)
})
