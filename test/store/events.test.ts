import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import t from 'tap'
import type { VideoEvent } from '../../src/publication/events.ts'
import type { VideoStore } from '../../src/publication/store.ts'
import type { Video } from '../../src/publication/video.ts'
import { openStore } from '../../src/store/open.ts'
import { schemaOf, startPostgres } from '../support/postgres.ts'
import { aVideo } from '../support/video.ts'

/** Events are written with their changes, and a reader that goes on from its last position gets each of them once. */

const directory = mkdtempSync(join(tmpdir(), 'events-'))
const server = await startPostgres()
const unavailable = 'unavailable' in server ? server.unavailable : false
const postgres = 'unavailable' in server ? undefined : server
t.teardown(async () => {
  await postgres?.close()
  rmSync(directory, { recursive: true })
})
let files = 0
const engines = [
  ['sqlite', () => `sqlite:${join(directory, `${files++}.db`)}`],
  ['postgres', postgres && (() => postgres.newUrl())],
] as const

/** Reads what is new after a position, in small pages. */
async function readOn(store: VideoStore, after: number): Promise<VideoEvent[]> {
  const { last } = await store.eventRange()
  const read: VideoEvent[] = []
  for (;;) {
    const from = read.at(-1)?.position ?? after
    const page = await store.events({ after: from, upTo: last, limit: 7 })
    read.push(...page)
    if (page.length < 7) return read
  }
}

const rename = (video: Video): Video => ({ ...video, title: `${video.title}+` })

for (const [engine, url] of engines) {
  if (!url) {
    t.test(`${engine}: the events of a store`, { skip: unavailable }, async () => {})
    continue
  }

  t.test(`${engine}: an event is written with its change or not at all`, async (t) => {
    const store = await openStore(url(), 5)
    const video = aVideo()
    await store.insert(video)
    t.strictSame(await store.eventRange(), { first: 0, last: 0 })
    await store.update(video.id, rename)
    await store.plan(video.id, rename)
    await store.update(video.id, (row) => row)
    await store.plan(video.id, (row) => ({ ...row, checks: 9, nextCheckAt: 5 }))
    await t.rejects(
      store.update(video.id, () => {
        throw new Error('rejected')
      }),
    )
    const key = { client: 'cms', key: 'k', fingerprint: 'f' }
    await store.insert(aVideo(), key)
    await store.update(video.id, (row) => ({ ...row, stage: 'deleting' }), { freesKey: true })
    const events = await readOn(store, 0)
    t.match(
      events.map(({ type, video: { title, version, id } }) => ({ type, title, version, id })),
      [
        { type: 'video.updated', title: `${video.title}+`, version: 2, id: video.id },
        { type: 'video.updated', title: `${video.title}++`, version: 3, id: video.id },
        { type: 'video.deleted', title: `${video.title}++`, version: 5, id: video.id },
      ],
    )
    t.equal(new Set(events.map(({ id }) => id)).size, 3)
    t.ok(events.every(({ createdAt }) => Math.abs(createdAt - Date.now()) < 60_000))
    const { last } = await store.eventRange()
    t.strictSame(
      (await store.events({ after: 0, upTo: last, video: video.id, type: 'video.deleted', limit: 9 })).length,
      1,
    )
    t.strictSame((await store.events({ after: 0, upTo: last, type: 'video.ready', limit: 9 })).length, 0)
    t.strictSame((await store.events({ after: 0, upTo: last, video: 'other', limit: 9 })).length, 0)
    await store.close()
  })

  t.test(`${engine}: readers miss no event while many processes write`, async (t) => {
    const place = url()
    const stores = await Promise.all([openStore(place, 5), openStore(place, 5)])
    const [one, two] = stores as [VideoStore, VideoStore]
    const videos = Array.from({ length: 6 }, () => aVideo())
    for (const video of videos) await one.insert(video)
    let writing = true
    const reader = async (store: VideoStore) => {
      const seen: VideoEvent[] = []
      for (let last = false; ; last = !writing) {
        seen.push(...(await readOn(store, seen.at(-1)?.position ?? 0)))
        if (last) return seen
        await sleep(1)
      }
    }
    const readers = [reader(one), reader(two), reader(two)]
    await Promise.all(
      videos.map(async ({ id }, index) => {
        const store = index % 2 ? one : two
        for (let change = 0; change < 25; ) {
          try {
            await store.update(id, rename)
            change++
          } catch {
            // SQLite: the other one writes.
            await sleep(1)
          }
        }
      }),
    )
    writing = false
    for (const seen of await Promise.all(readers)) {
      t.equal(seen.length, 150)
      t.equal(new Set(seen.map(({ id }) => id)).size, 150, 'each once')
      for (const video of videos) {
        const versions = seen
          .filter((event) => event.video.id === video.id)
          .map((event) => event.video.version)
        t.strictSame(
          versions,
          Array.from({ length: 25 }, (_, index) => index + 2),
          'in the order of the versions',
        )
      }
    }
    for (const store of stores) await store.close()
  })

  t.test(`${engine}: old events are deleted in batches, and the last one stays`, async (t) => {
    const store = await openStore(url(), 5)
    const video = aVideo()
    await store.insert(video)
    for (let change = 0; change < 10; change++) await store.update(video.id, rename)
    const { first, last } = await store.eventRange()
    t.equal(await store.expireEvents(3_600_000, 100), 0, 'too young')
    t.equal(await store.expireEvents(-1_000, 4), 4)
    t.equal((await store.eventRange()).first, first + 4)
    t.equal(await store.expireEvents(-1_000, 100), 5)
    t.strictSame(await store.eventRange(), { first: last, last })
    t.equal(await store.expireEvents(-1_000, 100), 0)
    await store.update(video.id, rename)
    t.equal((await readOn(store, last)).length, 1, 'positions go on')
    await store.close()
  })
}

t.test(
  'postgres: a transaction that stays open delays events and loses none',
  { skip: unavailable },
  async (t) => {
    const place = postgres?.newUrl() ?? ''
    const schema = schemaOf(place)
    const store = await openStore(place, 5)
    const video = aVideo()
    await store.insert(video)
    const late = new pg.Client({ connectionString: place.split('?')[0] })
    const lost = new pg.Client({ connectionString: place.split('?')[0] })
    for (const client of [late, lost]) {
      await client.connect()
      await client.query('BEGIN')
      await client.query(
        `INSERT INTO ${schema}.video_events (id, video_id, type, created_at, video)
       VALUES ('${client === late ? 'late' : 'lost'}', 'v', 'video.updated', 1, '{}')`,
      )
    }
    await store.update(video.id, rename)
    const before = await readOn(store, 0)
    t.equal(before.length, 1, 'a later change is not kept waiting by an open transaction')
    await store.update(video.id, rename)
    await lost.query('ROLLBACK')
    await late.query('COMMIT')
    const after = await readOn(store, before[0]?.position ?? 0)
    t.strictSame(
      after.map((event) => (event.id === 'late' ? 'late' : event.video.version)).toSorted(),
      [3, 'late'],
      'what was written first and committed last is not missed; what was rolled back does not come',
    )
    for (const client of [late, lost]) await client.end()
    await store.close()
  },
)

t.test(
  'postgres: readers do not see past the positions of an open transaction',
  { skip: unavailable },
  async (t) => {
    const place = postgres?.newUrl() ?? ''
    const schema = schemaOf(place)
    const store = await openStore(place, 5)
    const video = aVideo()
    await store.insert(video)
    await store.update(video.id, rename)
    const { placeEvents } = (await import('../../src/store/postgres/statements.ts')).statementsFor(schema)
    const placing = new pg.Client({ connectionString: place.split('?')[0] })
    await placing.connect()
    await placing.query('BEGIN')
    await placing.query(placeEvents.text, [10])
    await store.update(video.id, rename)
    const reading = readOn(store, 0)
    await sleep(100)
    await placing.query('COMMIT')
    const events = await reading
    t.strictSame(
      events.map((event) => event.video.version),
      [2, 3],
    )
    t.ok((events[0]?.position ?? 0) < (events[1]?.position ?? 0))
    await placing.end()
    await store.close()
  },
)
