import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { openStore } from '../../src/store/open.ts'
import { fakeMp4, startGateway } from '../support/gateway.ts'
import { discardingSandbox, isReady, slowUpload, until } from '../support/outage.ts'
import { missingPgbouncer, startPgbouncer } from '../support/pgbouncer.ts'
import { type SharedPostgres, sharedPostgres } from '../support/postgres.ts'

/** Debian's pgbouncer in transaction mode between the gateways and PostgreSQL. */
const started = await sharedPostgres()
const server = started as SharedPostgres
const skip = ('unavailable' in started && started.unavailable) || missingPgbouncer
t.teardown(() => server.close?.())

t.test('gateways behind pgbouncer share fewer connections than they have', { skip }, async (t) => {
  // The gateways have twenty connections to it, and it has four.
  const pooler = await startPgbouncer(t, server.port, 4)
  const url = server.newUrl('&prepare=false').replace(`:${server.port}/`, `:${pooler.port}/`)
  const sandbox = await discardingSandbox(t)
  const start = () => startGateway(t, { sandbox, env: { DATABASE_URL: url }, policy: { uploadLease: 1_000 } })
  const [one, two] = [await start(), await start()]
  const publish = async (index: number) => {
    const [near, far] = index % 2 ? [one, two] : [two, one]
    const { id } = await near.create()
    t.equal((await far.put(id, fakeMp4(2_000))).status, 204)
    await near.until(id, ({ status }) => status !== 'pending')
    t.equal((await far.call('DELETE', `/v1/videos/${id}`)).status, 204)
    t.equal((await near.call('GET', `/v1/videos/${id}`)).status, 410)
  }
  await Promise.all(Array.from({ length: 40 }, (_, index) => publish(index)))
  t.equal(sandbox.stats().calls.create, 40)

  const videos = await Promise.all(Array.from({ length: 10 }, () => one.create()))
  const uploads = videos.map(({ id }) => slowUpload(two, id))
  for (const { id } of videos) await one.until(id, ({ stage }) => stage === 'uploading')
  await pooler.kill()
  await until(async () => !(await isReady(one)) && !(await isReady(two)))
  await sleep(1_500)
  await pooler.start()
  await until(async () => (await isReady(one)) && (await isReady(two)))
  for (const { finish } of uploads) finish()
  const answers = await Promise.all(uploads.map(({ answer }) => answer))
  t.strictSame(
    new Set(answers.map(({ status }) => status)),
    new Set([204]),
    'a restart of it costs no upload',
  )
  for (const { id } of videos) await one.until(id, ({ status }) => status !== 'pending')
})

t.test('without prepare=false the gateway refuses to start and says what to do', { skip }, async (t) => {
  const pooler = await startPgbouncer(t, server.port, 4)
  const url = server.newUrl().replace(`:${server.port}/`, `:${pooler.port}/`)
  await t.rejects(openStore(url, 4), { message: /^DATABASE_URL: cannot use [^\n]*prepare=false/ })
})
