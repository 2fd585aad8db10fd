import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, existsSync, readdirSync, writeFileSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { Client } from 'pg'
import t, { type Test } from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { type Stage, type Video, visibleStages } from '../../src/publication/video.ts'
import { tables } from '../../src/store/move/side.ts'
import { openStore } from '../../src/store/open.ts'
import { openStore as openSqlite } from '../../src/store/sqlite.ts'
import { fakeMp4, temporaryDirectory } from '../support/gateway.ts'
import { type PostgresServer, schemaOf, sharedPostgres } from '../support/postgres.ts'
import { startProcess } from '../support/process.ts'
import { aVideo } from '../support/video.ts'

/** `MOVED_VIDEOS=1000000` for a long run. */
const many = Number(process.env.MOVED_VIDEOS ?? 10_000)
const started = await sharedPostgres()
const server = started as PostgresServer
const skip = 'unavailable' in started && started.unavailable
t.teardown(() => server.close?.())
// Most of the time they wait: a source in PostgreSQL is watched for three seconds.
t.jobs = 4

/** Runs the command as an operator does. */
async function move(args: string[], { heapMb = 64, killAfter = '' } = {}) {
  const node = [`--max-old-space-size=${heapMb}`, 'scripts/move-store.ts', ...args]
  const child = spawn('env', ['-u', 'NODE_OPTIONS', process.execPath, ...node])
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk) => {
      output += chunk
      if (killAfter && output.includes(killAfter)) child.kill('SIGKILL')
    })
  const [code, signal] = await once(child, 'close')
  return { code, signal, output, digest: /SHA-256 (\w+)/.exec(output)?.[1] }
}

const texts = ['Ümläute, 日本語', 'a NUL \0', 'a lone surrogate \ud800', '"quotes" \\ \\u0000', '']
const stages = Object.values(visibleStages).flat() as Stage[]

const endpointIds = ['1', '2']

/** One that waits, or one that has ended; some have a body of their own. */
function deliveryValues(index: number, text: string) {
  const result = JSON.stringify({ responseStatus: 500, failure: 'status 500', response: text })
  const end = index % 8 ? ['pending', 1, index, index, null] : ['failed', 9, index, null, result]
  const [status, attempts, createdAt, next, settled] = end as [
    string,
    number,
    number,
    number | null,
    string | null,
  ]
  const body = index % 12 ? null : JSON.stringify({ text })
  const key = [endpointIds[index % 2] as string, `event ${index}`, body ? null : index + 1] as const
  return [
    ...key,
    'video.updated',
    body,
    status,
    attempts,
    createdAt,
    next,
    settled && index,
    settled,
  ] as const
}

/** A database with videos in every stage, keys and leftovers with all kinds of text. */
async function seed(file: string, count: number): Promise<void> {
  await openSqlite(`sqlite:${file}`).close()
  const db = new DatabaseSync(file)
  db.exec('BEGIN')
  const add = db.prepare('INSERT INTO videos (id, document) VALUES (?, ?)')
  const addKey = db.prepare('INSERT INTO idempotency_keys VALUES (?, ?, ?, ?, ?, ?)')
  const addEvent = db.prepare(
    'INSERT INTO video_events (position, id, videoId, type, createdAt, video) VALUES (?, ?, ?, ?, ?, ?)',
  )
  const addDelivery = db.prepare(
    `INSERT INTO webhook_deliveries (endpointId, eventId, position, type, body, status, attempts, createdAt, nextAttemptAt,
       lastAttemptAt, result) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  )
  for (const id of endpointIds)
    db.exec(
      `INSERT INTO webhook_endpoints (id, slot, document, enabled, events, beginsAfter, failingSince, version, resendSince)
       VALUES ('${id}', ${id}, '${JSON.stringify({ description: texts.join() }).replaceAll("'", "''")}', 1, '["video.ready"]', 7, 8, 9, 10)`,
    )
  db.exec('INSERT INTO webhook_fan_out VALUES (1, 12)')
  for (let index = 0; index < count; index++) {
    const text = texts[index % texts.length] as string
    const stage = [...stages, 'deleted' as const][index % 6] as Stage
    const info = {
      launchUrl: 'https://x/y',
      mimeType: 'video/mp4' as const,
      width: 1,
      height: 2,
      duration: 0.1,
    }
    const video: Partial<Video> = { title: text, reference: text || null, stage, info, nextCheckAt: index }
    const { id, ...others } = aVideo(video)
    // Rows of earlier releases lack some fields.
    if (index % 10 === 9)
      for (const name of ['epoch', 'mayArrive', 'undoAt'] as const) delete others[name as never]
    add.run(id, JSON.stringify({ id, ...others }))
    const response = index % 20 ? null : JSON.stringify({ id, title: text })
    if (index % 5 === 0) addKey.run('cms', `${text}-${index}`, 'f', id, response, 1_700_000_000_000 + index)
    if (index % 3 === 0)
      addEvent.run(index + 1, `event ${index}`, id, 'video.updated', index, JSON.stringify({ title: text }))
    if (index % 4 === 0) addDelivery.run(...deliveryValues(index, text))
    if (index % 7 === 0) db.exec(`INSERT INTO leftovers VALUES ('${id}', 2, 1, ${index}, ${index + 1})`)
  }
  db.exec('COMMIT')
  db.close()
}

/** Everything that the gateway reads of a store. */
async function contentsOf(url: string) {
  const store = await openStore(url, 2)
  const listed = await store.list({ limit: 1_000 })
  const [videos, keys]: [unknown[], unknown[]] = [[], []]
  for (const [index, { id }] of listed.entries()) {
    videos.push(await store.find(id))
    keys.push(await store.findKey('cms', `${texts[index % texts.length]}-${index}`))
  }
  const counts = (await store.counts()).toSorted((a, b) => a.stage.localeCompare(b.stage))
  const byReference = (await store.list({ reference: texts[1], limit: 1_000 })).map(({ id }) => id)
  const endpoints = await store.endpoints()
  const deliveries = await Promise.all(
    endpoints.map(({ id }) => store.deliveries({ endpointId: id, limit: 1_000 })),
  )
  await store.close()
  return JSON.parse(JSON.stringify({ videos, keys, counts, byReference, endpoints, deliveries }))
}

const big = await temporaryDirectory(t)
// Before all tests: it blocks the event loop for a second.
await seed(`${big}/a.db`, many)
// Another test moves the other one at the same time.
copyFileSync(`${big}/a.db`, `${big}/c.db`)

t.test('a move in every direction copies every row', { skip }, async (t) => {
  const directory = await temporaryDirectory(t)
  const urls = [
    `sqlite:${directory}/first.db`,
    server.newUrl(),
    server.newUrl('&prepare=false'),
    `sqlite:${directory}/folder/second.db`,
    `sqlite:${directory}/third.db`,
  ]
  await seed(`${directory}/first.db`, 300)
  const [first = ''] = urls
  const expected = await contentsOf(first)
  t.equal(expected.videos.length, 250)
  t.ok(expected.keys.filter(Boolean).length > 10)
  t.equal(expected.deliveries.flat().length, 75)
  const digests = new Set()
  for (const [index, to] of urls.slice(1).entries()) {
    const { code, output, digest } = await move([urls[index] as string, to])
    t.equal(code, 0, output)
    t.match(
      output,
      /^Moved and verified: 300 videos, 60 idempotency keys, 43 expected leftovers, 100 events, 2 webhook endpoints, 75 webhook deliveries, 1 webhook cursors \(SHA-256/m,
    )
    t.notMatch(output, /password|Warning/, 'no password is printed')
    digests.add(digest)
    t.ok(isDeepStrictEqual(await contentsOf(to), expected), `move ${index + 1}`)
    t.ok(isDeepStrictEqual(await contentsOf(urls[index] as string), expected), 'the source stays')
  }
  t.equal(digests.size, 1)
})

t.test('every table of the schemas is moved or can be computed', { skip }, async (t) => {
  const url = server.newUrl()
  await (await openStore(url, 1)).close()
  const file = `${await temporaryDirectory(t)}/x.db`
  await openSqlite(`sqlite:${file}`).close()
  const db = new DatabaseSync(file)
  const inSqlite = db
    .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    .all()
  db.close()
  const inPostgres = await server.query('SELECT tablename AS name FROM pg_tables WHERE schemaname = $1', [
    schemaOf(url),
  ])
  const computed = ['probe', 'video_counts', 'video_count_changes', 'schema_version']
  const moved = tables.map(({ name }) => name)
  for (const rows of [inSqlite, inPostgres.rows])
    t.strictSame(
      rows
        .map(({ name }) => name as string)
        .filter((name) => !computed.includes(name))
        .toSorted(),
      moved.toSorted(),
    )
})

t.test('a wrong call changes nothing and says what to do', { skip }, async (t) => {
  const directory = await temporaryDirectory(t)
  const at = (name: string) => `sqlite:${directory}/${name}`
  await seed(`${directory}/full.db`, 20)
  for (const [name, version] of [
    ['older.db', 3],
    ['newer.db', 999],
  ] as const) {
    copyFileSync(`${directory}/full.db`, `${directory}/${name}`)
    const db = new DatabaseSync(`${directory}/${name}`)
    db.exec(`PRAGMA user_version = ${version}`)
    db.close()
  }
  writeFileSync(
    `${directory}/text.db`,
    'no database, but a text that is long enough to be read as one'.repeat(20),
  )
  writeFileSync(`${directory}/empty.db`, '')
  const [full, newer, older, foreign] = [server.newUrl(), server.newUrl(), server.newUrl(), server.newUrl()]
  t.equal((await move([at('full.db'), full])).code, 0)
  for (const [url, version] of [
    [newer, 999],
    [older, 0],
  ] as const) {
    await (await openStore(url, 1)).close()
    await server.query(`UPDATE ${schemaOf(url)}.schema_version SET version = ${version}`)
  }
  await server.query(`CREATE SCHEMA ${schemaOf(foreign)} CREATE TABLE videos (id int)`)
  const nowhere = new URL(full)
  nowhere.port = '1'
  const before = readdirSync(directory)
  const cases: [args: string[], code: number, said: RegExp][] = [
    [[], 2, /^usage: npm run move-store -- FROM TO/],
    [[at('full.db')], 2, /^usage/],
    [[at('full.db'), at('new.db'), 'more'], 2, /^usage/],
    [['--help'], 0, /^usage/],
    [['full.db', at('new.db')], 1, /^FROM: expected sqlite:PATH or postgres:/],
    [[at('full.db'), 'mysql://x/y'], 1, /^TO: expected sqlite:PATH or postgres:/],
    [['memory:', at('new.db')], 1, /^FROM: memory: ends with its process/],
    [[`${full}&pool=3`, at('new.db')], 1, /^FROM: unknown parameter pool/],
    [[at('full.db'), at('../full.db').replace('..', `../${directory.split('/').at(-1)}`)], 1, /same store/],
    [[full, full.replace('schema=', 'application_name=x&schema=')], 1, /same store/],
    [[at('gone.db'), at('new.db')], 1, /^FROM: cannot use sqlite:.*gone.db: there is no such file/],
    [[at('text.db'), at('new.db')], 1, /^FROM: .*not a database/],
    [[at('empty.db'), at('new.db')], 1, /^FROM: .*it is not a database of the gateway/],
    [
      [at('older.db'), at('new.db')],
      1,
      /version 3 of an earlier release, this one requires \d+: start this release/,
    ],
    [[at('newer.db'), at('new.db')], 1, /version 999, this release supports up to \d+: use a newer release/],
    [[newer, at('new.db')], 1, /version 999, this release supports up to \d+: use a newer release/],
    [[older, at('new.db')], 1, /version 0 of an earlier release, this one requires \d+: start this release/],
    [[server.newUrl(), at('new.db')], 1, /^FROM: .*the schema s\w+ has no videos of a gateway/],
    [[foreign, at('new.db')], 1, /^FROM: .*has no videos of a gateway/],
    [[nowhere.href, at('new.db')], 1, /^FROM: cannot use postgres:\/\/127.0.0.1:1\/postgres: .*ECONNREFUSED/],
    [[full.replace('password', 'secret-1'), at('new.db')], 1, /password authentication failed/],
    [[full.replace('/postgres?', '/nobody?'), at('new.db')], 1, /database "nobody" does not exist/],
    [[at('full.db'), full], 1, /^TO: .*it is not empty, it has videos: move to a new database, or/],
    [
      [full, at('full.db')],
      1,
      /^TO: .*it is not empty, it has videos: move to a file that does not exist yet/,
    ],
    [[full, at('newer.db')], 1, /^TO: .*it is not empty/],
    [[full, newer], 1, /^TO: .*version 999/],
    [[full, foreign], 1, /^TO: .*has a table videos of another application/],
    [[full, at('text.db')], 1, /^TO: .*not a database/],
  ]
  await Promise.all(
    Array.from({ length: 4 }, async () => {
      for (let next = cases.shift(); next; next = cases.shift()) {
        const [args, code, said] = next
        const result = await move(args)
        t.match(result.output, said, args.join(' '))
        t.equal(result.code, code)
        t.notMatch(result.output, /secret-1|:password@| {4}at /)
      }
    }),
  )
  t.strictSame(readdirSync(directory), before, 'no file was made')
  t.equal((await move([full, at('empty.db')])).code, 0, 'a file without content is empty')
})

t.test('a running gateway prevents the move, even an idle one', { skip }, async (t) => {
  const sandbox = await startSandbox({ knobs: { discard: true, processing_delay_ms: 10 } })
  t.teardown(() => sandbox.close())
  const directory = await temporaryDirectory(t)
  const source = `sqlite:${directory}/gateway.db`
  const target = server.newUrl()
  const start = (url: string) => startProcess(t, { SANDBOX_BASE_URL: sandbox.url, DATABASE_URL: url })
  const gateway = await start(source)
  const { id } = (await gateway.call('POST', '/v1/videos', { title: 'x' }, { 'idempotency-key': 'k' })).body
  await gateway.call('PUT', `/v1/videos/${id}/content`, fakeMp4(1000))
  await isReady(gateway, id)

  const running = /another process has it open: stop every gateway that uses it/
  t.match(await move([source, target]), { code: 1, output: running })
  t.equal((await gateway.call('GET', '/health/ready')).status, 200, 'which costs the gateway nothing')
  const other = await start(`sqlite:${directory}/target.db`)
  t.match(await move([server.newUrl(), `sqlite:${directory}/target.db`]), { code: 1 })
  await other.kill('SIGTERM')
  t.equal(await gateway.kill('SIGTERM'), 0)
  t.equal((await move([source, target])).code, 0)

  const moved = await start(target)
  t.match(await moved.call('GET', `/v1/videos/${id}/info`), { status: 200 })
  const again = await moved.call('POST', '/v1/videos', { title: 'x' }, { 'idempotency-key': 'k' })
  t.match(again, { status: 201, body: { id } })
  t.equal(again.headers.get('idempotency-replayed'), 'true')

  const back = `${directory}/back.db`
  t.match(await move([target, `sqlite:${back}`]), {
    code: 1,
    output: /^nothing was moved: \d other connections write to FROM: stop every gateway that uses it/m,
  })
  t.notOk(existsSync(back), 'nothing is left of the target')
  t.equal(
    (await moved.call('POST', '/v1/videos', { title: 'y' })).status,
    201,
    'and the gateway keeps working',
  )
  t.equal(await moved.kill('SIGKILL'), 'SIGKILL')
  await sleep(100)
  t.equal((await move([target, `sqlite:${back}`])).code, 0)
  const home = await start(`sqlite:${back}`)
  t.equal((await home.call('DELETE', `/v1/videos/${id}`)).status, 204)
})

t.test('any other writer to a PostgreSQL source prevents the move', { skip }, async (t) => {
  const directory = await temporaryDirectory(t)
  await seed(`${directory}/a.db`, 50)
  const url = server.newUrl()
  t.equal((await move([`sqlite:${directory}/a.db`, url])).code, 0)
  const update = `UPDATE ${schemaOf(url)}.videos SET checks = checks + 1`
  const client = new Client(url)
  await client.connect()
  t.teardown(() => client.end())

  await client.query(`BEGIN; ${update}`)
  t.match(await move([url, `sqlite:${directory}/b.db`]), {
    code: 1,
    output: /another process writes to it: stop every gateway that uses it/,
  })
  await client.query('COMMIT')

  let writing = true
  const writer = (async () => {
    for (; writing; await sleep(300)) await client.query(update)
  })()
  t.match(await move([url, `sqlite:${directory}/b.db`]), { code: 1, output: /connections write to FROM/ })
  writing = false
  await writer
  t.equal((await move([url, `sqlite:${directory}/b.db`])).code, 0)
})

t.test('an interrupted move reports the reason and leaves an empty target', { skip }, async (t) => {
  const target = server.newUrl('&application_name=mover')
  const moving = move([`sqlite:${big}/c.db`, target])
  const terminate =
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%json_to_recordset%' AND application_name = 'mover'"
  let ended = false
  void moving.finally(() => {
    ended = true
  })
  while (!ended && (await server.query(terminate)).rows.length === 0) await sleep(5)
  t.match(await moving, { code: 1, output: /^nothing was moved: .*(terminat|closed|connection error)/m })
  t.equal((await server.query(`SELECT FROM ${schemaOf(target)}.videos`)).rows.length, 0)
  t.equal((await move([`sqlite:${big}/c.db`, target])).code, 0)
})

async function isReady(gateway: Awaited<ReturnType<typeof startProcess>>, id: string) {
  for (const deadline = Date.now() + 20_000; Date.now() < deadline; await sleep(20))
    if ((await gateway.call('GET', `/v1/videos/${id}/status`)).body.status === 'ready') return
  throw new Error('never ready')
}

t.test(`${many} videos are moved in little memory, all or none`, { skip }, async (t: Test) => {
  const [a, b] = [`sqlite:${big}/a.db`, `sqlite:${big}/b.db`]
  const target = server.newUrl()
  for (const to of [b, target]) {
    const { signal } = await move([a, to], { killAfter: 'verifying' })
    t.equal(signal, 'SIGKILL')
  }
  const count = `SELECT count(*)::int AS n FROM ${schemaOf(target)}.videos`
  const locks = `SELECT FROM pg_locks WHERE relation = '${schemaOf(target)}.videos'::regclass`
  while ((await server.query(locks)).rows.length > 0) await sleep(20)
  t.equal((await server.query(count)).rows[0].n, 0, 'a move that was killed leaves nothing')
  for (const [from, to] of [
    [a, b],
    [b, target],
  ] as const) {
    const begun = performance.now()
    const { code, output } = await move([from, to], { heapMb: 48 })
    t.equal(code, 0, output)
    t.comment(`${many} videos in ${((performance.now() - begun) / 1000).toFixed(1)} s`)
  }
  t.equal((await server.query(count)).rows[0].n, many)
})
