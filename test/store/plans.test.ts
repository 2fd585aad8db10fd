import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import t from 'tap'
import type { Stage, Video } from '../../src/publication/video.ts'
import { migrate } from '../../src/store/migrations.ts'
import { openStore } from '../../src/store/sqlite.ts'
import { aVideo } from '../support/video.ts'
import { expectLists, queries, seed, stages, visible } from './listing.ts'

const directory = mkdtempSync(join(tmpdir(), 'plans-'))
t.teardown(() => rmSync(directory, { recursive: true }))
let files = 0
const newFile = () => join(directory, `${files++}.db`)

t.test('every combination of filters lists the same rows as a scan', async (t) => {
  const store = openStore('memory:')
  await expectLists(t, store)
  await store.close()
})

t.test('no statement of the store scans or sorts rows', async (t) => {
  const file = newFile()
  const statements = new Set<string>()
  const { prepare } = DatabaseSync.prototype
  DatabaseSync.prototype.prepare = function (this: DatabaseSync, ...args) {
    statements.add(args[0])
    return prepare.apply(this, args)
  }
  t.teardown(() => Object.assign(DatabaseSync.prototype, { prepare }))
  const store = openStore(`sqlite:${file}`)
  const ids = (await seed(store)).map(({ id }) => id)
  for (const query of queries(ids[12] ?? '', ids[0] ?? '')) await store.list(query)
  await store.expireKeys(0, 1)
  await store.expireDeleted(0, 1)
  for (const status of [undefined, 'pending'] as const)
    for (const before of [undefined, 'x'])
      await store.deliveries({ endpointId: 'x', status, before, limit: 1 })
  DatabaseSync.prototype.prepare = prepare

  const db = new DatabaseSync(file)
  let explained = 0
  for (const sql of statements) {
    if (/^(PRAGMA|INSERT|REPLACE)/.test(sql) || /sqlite_schema/.test(sql)) continue
    const plan = db
      .prepare(`EXPLAIN QUERY PLAN ${sql}`)
      .all()
      .map(({ detail }) => String(detail))
    // The counts have a row per platform and stage, and there are few endpoints; the others are what a limit has left.
    const harmless =
      /^SCAN (CONSTANT ROW|video_counts|json_each|\(subquery|webhook_endpoints|webhook_fan_out|endpoint|owners|due)/
    const costly = plan.filter((step) => /^SCAN|TEMP B-TREE/.test(step) && !harmless.test(step))
    t.strictSame(costly, [], `${sql}\n${plan.join('\n')}`)
    // By the endpoint alone, finished deliveries would be read too.
    if (/status = ('pending'|\?)/.test(sql) && /SELECT.*FROM webhook_deliveries/s.test(sql))
      t.notMatch(plan.join('\n'), /SEARCH webhook_deliveries USING PRIMARY KEY \(endpointId=\?\)/, sql)
    explained++
  }
  t.ok(explained > 20, `${explained} statements`)
  db.close()
  await store.close()
})

t.test('the counts include the changes of every process', async (t) => {
  const file = newFile()
  const [one, two] = [openStore(`sqlite:${file}`), openStore(`sqlite:${file}`)]
  const db = new DatabaseSync(file)
  const counted = () =>
    db.prepare('SELECT platform, stage, count(*) AS count FROM videos GROUP BY platform, stage').all()
  const agree = async (what: string) => t.same(await one.counts(), counted(), what)
  await agree('empty')
  const videos = await seed(one)
  await agree('inserted')
  for (const [index, { id }] of videos.entries()) {
    const store = index % 2 ? one : two
    await store.update(id, (video) => ({ ...video, stage: stages[(index * 5) % 8] as Stage }))
    await store.plan(id, (video) => ({ ...video, nextCheckAt: index }))
  }
  await agree('updated')
  await one.claimDue({ platform: 'mux', ready: false, claim: 200, horizon: 300, limit: 10 })
  await agree('claimed')
  await t.rejects(one.insert(videos[0] as Video))
  await agree('a write that failed')
  db.exec(`DELETE FROM videos WHERE id < '${videos[9]?.id}'`)
  await agree('deleted by hand')
  for (const store of [one, two]) await store.close()
  db.close()
})

t.test('a database of an earlier version has its counts and lists after the migration', async (t) => {
  const file = newFile()
  const db = new DatabaseSync(file)
  migrate(db, 2)
  const insert = db.prepare('INSERT INTO videos (id, document) VALUES (?, ?)')
  const videos = stages.map((stage) => aVideo({ stage, reference: 'r' }))
  for (const video of videos) insert.run(video.id, JSON.stringify(video))
  db.close()
  const store = openStore(`sqlite:${file}`)
  t.same(
    await store.counts(),
    stages.toSorted().map((stage) => ({ platform: 'sandbox', stage, count: 1 })),
  )
  t.strictSame(
    await store.list({ limit: 10 }),
    videos.filter(({ stage }) => visible.includes(stage)).toReversed(),
  )
  t.strictSame((await store.list({ reference: 'r', status: 'ready', limit: 10 })).length, 1)
  await store.close()
})
