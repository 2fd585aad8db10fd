import { fork } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { openStore } from '../../src/store/open.ts'
import { readConnection } from '../../src/store/postgres/connection.ts'
import { startGateway, temporaryDirectory } from '../support/gateway.ts'
import { until } from '../support/outage.ts'
import { type PostgresServer, schemaOf, startPostgres } from '../support/postgres.ts'
import { aVideo } from '../support/video.ts'

const started = await startPostgres()
const server = started as PostgresServer
const options = { skip: 'unavailable' in started && started.unavailable }
t.teardown(() => server.close?.())

t.test('several processes can start concurrently on an empty schema', options, async (t) => {
  const script = new URL('../support/open-store.ts', import.meta.url)
  const processes = Array.from({ length: 4 }, () => fork(script))
  t.teardown(() => processes.map((child) => child.kill()))
  for (let round = 0; round < 10; round++) {
    const url = server.newUrl()
    const answers = processes.map(async (child) => {
      const [error] = await once(child, 'message')
      return error
    })
    for (const child of processes) child.send(url)
    t.strictSame(await Promise.all(answers), [null, null, null, null])
  }
})

t.test('acknowledged writes are visible to the next process', options, async (t) => {
  const url = server.newUrl()
  const store = await openStore(url, 2)
  const video = aVideo()
  await store.insert(video)
  await server.kill()
  await server.start()
  const other = await openStore(url, 2)
  t.strictSame(await other.find(video.id), video)
  for (const each of [store, other]) await each.close()
})

t.test('a database that cannot be used is rejected in one line that names the reason', options, async (t) => {
  const newer = server.newUrl()
  await (await openStore(newer, 1)).close()
  await server.query(`UPDATE ${schemaOf(newer)}.schema_version SET version = 999`)
  const foreign = server.newUrl()
  await server.query(`CREATE SCHEMA ${schemaOf(foreign)} CREATE TABLE videos (id int)`)
  await server.query("CREATE DATABASE old ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'")
  await server.query("CREATE ROLE reader LOGIN PASSWORD 'secret-1'")
  const at = `127.0.0.1:${server.port}`
  const cases: [string, RegExp][] = [
    [newer, /version 999, this gateway supports up to/],
    [foreign, /has a table videos of another application/],
    [`postgres://postgres:password@${at}/old`, /the encoding of the database is SQL_ASCII/],
    [`postgres://postgres:secret-2@${at}/postgres`, /password authentication failed/],
    [`postgres://postgres:password@${at}/nowhere`, /database "nowhere" does not exist/],
    [`postgres://reader:secret-1@${at}/postgres?schema=x`, /permission denied/],
    [`${newer}&pool=3`, /unknown parameter pool; the parameters are schema, prepare, /],
    [`postgres://${at}/x?schema=a-b`, /schema: expected/],
    [`postgres://${at}/x?prepare=no`, /prepare: expected true or false/],
    [`postgres://${at}/x?sslmode=on`, /sslmode: expected one of disable, prefer, /],
    [
      `postgres://${at}/x?sslmode=verify-full&sslrootcert=/nowhere`,
      /sslrootcert: cannot read the file \(ENOENT\)/,
    ],
    [`postgres://postgres:password@${at}/postgres?sslmode=require`, /does not support SSL/],
  ]
  for (const [url, reason] of cases) {
    const error = await openStore(url, 1).then(
      (store) => store.close().then(() => new Error('it was opened')),
      (failure: Error) => failure,
    )
    t.match(error.message, reason)
    t.match(error.message, /^DATABASE_URL: cannot use [^\n]+$/)
    t.notMatch(error.message, /secret-|password@/)
  }
})

t.test('sslmode selects TLS as in libpq', async (t) => {
  const file = `${await temporaryDirectory(t)}/root.crt`
  writeFileSync(file, 'PEM')
  const ssl = (parameters: string) => readConnection(`postgres://db/gateway?${parameters}`).config.ssl
  t.strictSame(ssl('sslmode=disable'), false)
  t.strictSame(ssl(''), { rejectUnauthorized: false })
  t.strictSame(ssl('sslmode=require'), { rejectUnauthorized: false })
  t.match(ssl(`sslmode=require&sslrootcert=${file}`), { ca: 'PEM', checkServerIdentity: Function })
  t.match(ssl('sslmode=verify-ca'), { checkServerIdentity: Function, rejectUnauthorized: undefined })
  t.strictSame(ssl('sslmode=verify-full&sslrootcert=system'), {})
  t.strictSame(ssl(`sslmode=verify-full&sslrootcert=${file}`), { ca: 'PEM' })
  t.strictSame(ssl('sslmode=verify-full&host=/run/postgresql'), false, 'a socket of this machine')
})

t.test('an idempotency key is held by one process at a time', options, async (t) => {
  const url = server.newUrl()
  const stores = [await openStore(url, 5), await openStore(url, 5)]
  const claim = async (index: number) => {
    const video = aVideo()
    const record = { client: 'cms', key: 'k', fingerprint: 'f' }
    const holder = (await stores[index % 2]?.insert(video, record))?.holder
    if (!holder)
      await stores[index % 2]?.update(video.id, (row) => ({ ...row, checks: 1 }), { freesKey: true })
    return holder ? 'taken' : 'added'
  }
  const ends = await Promise.all(Array.from({ length: 40 }, (_, index) => claim(index)))
  const rows = (await server.query(`SELECT checks::int FROM ${schemaOf(url)}.videos`)).rows
  t.equal(rows.length, ends.filter((end) => end === 'added').length)
  t.ok(rows.every(({ checks }) => checks === 1))
  t.equal(await stores[0]?.findKey('cms', 'k'), undefined)
  for (const store of stores) await store.close()
})

t.test('metrics show the duration of calls, those that failed, and the connections', options, async (t) => {
  const gateway = await startGateway(t, { env: { DATABASE_URL: server.newUrl(), DATABASE_POOL: '2' } })
  const { store } = gateway.app.gateway
  const metrics = async (pattern: RegExp) =>
    Number(pattern.exec((await gateway.call('GET', '/metrics')).body as string)?.[1])
  t.equal(await metrics(/^gateway_store_connections_limit (\d+)$/m), 2)
  // The work in the background may hold both for a moment.
  await until(async () => (await metrics(/^gateway_store_connections\{state="waiting"\} (\d+)$/m)) === 0)
  const calls = Array.from({ length: 50 }, () => store.find('nobody'))
  await turn()
  t.match(store.connections(), { used: 2, idle: 0 })
  t.ok((store.connections()?.waiting ?? 0) > 0, 'the others wait')
  await Promise.all(calls)
  t.ok(
    (await metrics(/^gateway_store_duration_seconds_count\{operation="find",outcome="ok"\} (\d+)$/m)) >= 50,
  )
  const failed = /^gateway_store_duration_seconds_count\{operation="find",outcome="failed"\} (\d+)$/m
  t.equal(await metrics(failed), 0)
  await server.stop()
  await t.rejects(store.find('nobody'), { code: 'store-unavailable' })
  await server.start()
  t.equal(await metrics(failed), 1)
})
