import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { fakeMp4, startGateway } from '../support/gateway.ts'
import { discardingSandbox, isReady, patienceMs, pollOn, slowUpload, until } from '../support/outage.ts'
import { type PostgresServer, startPostgres } from '../support/postgres.ts'

const started = await startPostgres()
const server = started as PostgresServer
const options = { skip: 'unavailable' in started && started.unavailable }
t.teardown(() => server.close?.())

for (const how of ['kill', 'stop'] as const)
  t.test(`no upload or check is lost when the database goes away (${how})`, options, async (t) => {
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
    t.ok(calls.length > 500, `${calls.length} polls`)
    t.strictSame(new Set(calls.map(({ status }) => status)), new Set([200, 503]))
    t.ok(calls.every(({ status, retryAfter }) => status === 200 || retryAfter))
    const slowest = Math.max(...calls.map(({ ms }) => ms))
    t.ok(slowest < patienceMs, `${slowest} ms`)
    t.equal(gateway.sandbox.stats().calls.create, 20, 'nothing was made twice')
  })

t.test('a statement that waits for a lock or misses its table fails with 503', options, async (t) => {
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
