import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { VideoStore } from '../../src/publication/store.ts'
import { newVideo, type Video } from '../../src/publication/video.ts'
import { openStore } from '../../src/store/open.ts'
import { openStore as openSqlite } from '../../src/store/sqlite.ts'
import { dueQueries } from '../../src/store/statements.ts'
import { startPostgres } from '../support/postgres.ts'
import { aVideo } from '../support/video.ts'

const directory = mkdtempSync(join(tmpdir(), 'store-'))
t.teardown(() => rmSync(directory, { recursive: true }))
let files = 0
const newFile = () => join(directory, `${files++}.db`)
const server = await startPostgres()
const unavailable = 'unavailable' in server ? server.unavailable : false
const postgres = 'unavailable' in server ? undefined : server
t.teardown(() => postgres?.close())
const far = 10 ** 15
const hour = 3_600_000

for (const [kind, url] of [
  ['memory', () => 'memory:'],
  ['sqlite', () => `sqlite:${newFile()}`],
  ['postgres', postgres && (() => postgres.newUrl())],
  ['postgres without prepared statements', postgres && (() => postgres.newUrl('&prepare=false'))],
] as const) {
  if (!url) {
    t.test(`${kind}: the store’s suite`, { skip: unavailable }, async () => {})
    continue
  }
  t.test(`${kind}: stores a video unchanged`, async (t) => {
    const store = await openStore(url(), 10)
    const video = aVideo({
      title: 'Ümläute, 日本語, \0 and "quotes"',
      description: 'a lone surrogate: \ud800',
      info: {
        launchUrl: 'https://x/y.m3u8',
        mimeType: 'application/vnd.apple.mpegurl',
        width: 1,
        height: 2,
        duration: 0.1,
      },
    })
    await store.insert(video)
    t.strictSame(await store.find(video.id), video)
    t.equal(await store.find('nobody'), undefined)
    t.equal(await store.update('nobody', (current) => current), undefined)
    await store.close()
  })

  t.test(`${kind}: update is a compare-and-set`, async (t) => {
    const store = await openStore(url(), 10)
    const video = aVideo()
    await store.insert(video)
    const many = Array.from({ length: 20 }, (_, index) => index)
    const add = (current: Video) => ({ ...current, checks: current.checks + 1, title: `${current.title}+` })
    await Promise.all(
      many.map((index) => (index % 2 ? store.update(video.id, add) : store.plan(video.id, add))),
    )
    t.match(await store.find(video.id), { title: `${video.title}${'+'.repeat(20)}`, checks: 20, version: 21 })
    await t.rejects(
      store.update(video.id, () => {
        throw new Error('refused')
      }),
    )
    t.equal((await store.update(video.id, (current) => current))?.version, 21, 'no change, no write')
    await store.close()
  })

  t.test(`${kind}: related records are written with their row or not at all`, async (t) => {
    const store = await openStore(url(), 10)
    const video = aVideo()
    await store.insert(video, { client: 'cms', key: 'k', fingerprint: 'f' })
    await store.expectLeftover(video.id, 1, 0)
    const along = { leftover: { epoch: 1, searchIn: null }, freesKey: true }
    await store.update(video.id, (current) => current, along)
    t.ok(await store.findKey('cms', 'k'), 'no change, nothing with it')
    t.match(await store.claimLeftover(60_000), { videoId: video.id, epoch: 1 })
    await store.update(video.id, (current) => ({ ...current, checks: 1 }), {
      leftover: { epoch: 1, searchIn: 0 },
    })
    t.match(await store.claimLeftover(0), { videoId: video.id, looks: 0 }, 'due again')
    await store.update(video.id, (current) => ({ ...current, checks: 2 }), along)
    t.equal(await store.findKey('cms', 'k'), undefined)
    t.equal(await store.claimLeftover(0), undefined)
    await store.close()
  })

  t.test(`${kind}: lists newest first, by filter and page`, async (t) => {
    const store = await openStore(url(), 10)
    const videos = Array.from({ length: 7 }, (_, index) =>
      aVideo({
        reference: index % 2 ? 'odd' : null,
        platform: index < 2 ? 'mux' : 'sandbox',
        stage: index === 6 ? 'deleted' : 'ready',
      }),
    )
    for (const video of videos) await store.insert(video)
    const ids = async (query: object) =>
      (await store.list({ limit: 10, ...query })).map((video) =>
        videos.findIndex(({ id }) => id === video.id),
      )
    t.strictSame(await ids({}), [5, 4, 3, 2, 1, 0])
    t.strictSame(await ids({ limit: 2 }), [5, 4])
    t.strictSame(await ids({ limit: 2, before: videos[4]?.id }), [3, 2])
    t.strictSame(await ids({ reference: 'odd' }), [5, 3, 1])
    t.strictSame(await ids({ platform: 'mux' }), [1, 0])
    t.strictSame(await ids({ status: 'error' }), [])
    t.strictSame(await ids({ platform: 'nobody' }), [])
    t.same(await store.counts(), [
      { platform: 'mux', stage: 'ready', count: 2 },
      { platform: 'sandbox', stage: 'deleted', count: 1 },
      { platform: 'sandbox', stage: 'ready', count: 4 },
    ])
    await store.close()
  })

  t.test(`${kind}: a change of a row that was read earlier is applied to the stored row`, async (t) => {
    const store = await openStore(url(), 10)
    const first = aVideo({ stage: 'awaiting-upload', nextCheckAt: 1 })
    await store.insert(first)
    const failed = (row: Video): Video => ({ ...row, stage: 'failed' })
    const fails = (row: Video): Video => {
      if (row.stage === 'awaiting-upload') throw new Error('not yet')
      return { ...row, nextCheckAt: null }
    }
    const refuses = (row: Video) => (row.stage === 'failed' ? { ...row, nextCheckAt: 7 } : row)
    const seen: number[] = []
    const second = await store.update(first, (row, now) => {
      seen.push(row.version)
      t.ok(Math.abs(now - store.now()) < 1_000, 'the time of the store')
      return failed(row)
    })
    t.strictSame(second, { ...failed(first), version: 2 })
    t.strictSame(seen, [1], 'one call')
    // What an old row would lead to does not happen: an error, nothing, a change of what is no longer so.
    t.match(await store.plan(first, fails), { version: 3, nextCheckAt: null })
    t.match(await store.update(first, refuses), { version: 4, nextCheckAt: 7 })
    const along = { leftover: { epoch: 1, searchIn: null } }
    await store.expectLeftover(first.id, 1, 0)
    const kept = await store.update(first, (row) => (row.version === 1 ? failed(row) : row), along)
    t.match(kept, { version: 4 })
    t.match(
      await store.claimLeftover(1_000),
      { videoId: first.id },
      'nothing is written along with an old row',
    )
    await t.rejects(
      store.update({ ...first, stage: 'failed' }, () => {
        throw new Error('never')
      }),
      { message: 'never' },
    )
    t.equal(await store.update(aVideo(), failed), undefined, 'a row that does not exist')
    const row = (await store.find(first.id)) as Video
    const raises = Array.from({ length: 8 }, () =>
      store.update(row, (row) => ({ ...row, checks: row.checks + 1 })),
    )
    await Promise.all(raises)
    t.match(
      await store.find(first.id),
      { checks: 8, version: 12 },
      'none of several at the same time is lost',
    )
    await store.close()
  })

  t.test(`${kind}: durations and times may be fractions of a millisecond`, async (t) => {
    const store = await openStore(url(), 10)
    const video = aVideo({ stage: 'processing', nextCheckAt: store.now() - 1_000.5, updatedAt: 0.5 })
    await store.insert(video, { client: 'cms', key: 'k', fingerprint: 'f' }, 0.5)
    // The horizon of the poller with POLL_MAX_DELAY=15m and POLL_JITTER=0.15.
    const horizon = 900_000 * 1.15 + 10_000
    const query = { platform: 'sandbox', ready: false, claim: 1_000.4, horizon, limit: 5 }
    t.equal((await store.claimDue(query)).length, 1)
    t.strictSame(await store.claimDue({ ...query, ready: true }), [])
    for (const call of [store.update, store.plan])
      t.ok(await call(video.id, (row, now) => ({ ...row, nextCheckAt: now + 33.3, checkedAt: now - 0.1 })))
    await store.expectLeftover(video.id, 7, 0.25)
    await store.planLeftover(video.id, 7, 1, 0.75)
    await sleep(5)
    t.ok(await store.claimLeftover(60_000.5))
    const along = { leftover: { epoch: 7, searchIn: 99.9 } }
    t.ok(await store.update(video.id, (row) => ({ ...row, checks: 1 }), along))
    t.equal(await store.expireKeys(3_600_000.5, 9), 0)
    t.equal(await store.expireDeleted(3_600_000.5, 9), 0)
    t.equal(await store.expireEvents(3_600_000.5, 9), 0)
    await store.close()
  })

  t.test(`${kind}: an expectation is stored with its video or not at all`, async (t) => {
    const store = await openStore(url(), 10)
    const claim = { client: 'cms', key: 'k', fingerprint: 'f' }
    const [late, due, other] = [aVideo(), aVideo({ epoch: 5 }), aVideo()]
    await store.insert(late, undefined, 60_000)
    t.equal(await store.claimLeftover(60_000), undefined, 'not before its time')
    await store.insert(due, claim, 0)
    t.ok((await store.insert(other, claim, 0)).holder, 'the key is taken')
    await sleep(5)
    t.match(await store.claimLeftover(60_000), { videoId: due.id, epoch: 5, looks: 0 })
    t.equal(await store.claimLeftover(60_000), undefined, 'none of the video that was not added')
    await store.close()
  })

  t.test(`${kind}: claims a due row once`, async (t) => {
    const store = await openStore(url(), 10)
    const start = store.now() - 1_000
    const rows = [30, 10, null, 20, 600_000].map((at) =>
      aVideo({ stage: 'processing', nextCheckAt: at === null ? null : start + at }),
    )
    for (const row of rows) await store.insert(row)
    await store.insert(aVideo({ platform: 'mux', stage: 'processing', nextCheckAt: start }))
    await store.insert(aVideo({ stage: 'ready', nextCheckAt: start + 2 }))
    const claim = async (claim: number, horizon: number, limit: number) => {
      const claimed = await store.claimDue({ platform: 'sandbox', ready: false, claim, horizon, limit })
      for (const { video } of claimed)
        t.strictSame(video, await store.find(video.id), 'the row as the claim leaves it')
      return claimed.map(({ dueAt }) => (dueAt ?? 0) - start)
    }
    const isAbout = async (due: Promise<number | undefined>, ms: number) => {
      const error = ((await due) ?? Number.NaN) + store.now() - start - ms
      t.ok(Math.abs(error) < 1_000, `${ms}: off by ${error} ms`)
    }
    await isAbout(store.nextDueIn('sandbox'), 10)
    t.strictSame(await claim(900_000, far, 2), [10, 20], 'the longest due first')
    t.strictSame(await claim(900_000, far, 5), [30])
    t.strictSame(await claim(900_000, far, 5), [])
    const { nextCheckAt } = (await store.find(rows[1]?.id ?? '')) ?? {}
    const left = (nextCheckAt ?? 0) - store.now()
    t.ok(left > 850_000 && left <= 900_000, 'the claim runs out')
    await isAbout(store.nextDueIn('sandbox'), 600_000)
    t.strictSame(
      (await claim(100_000, 700_000, 5)).length,
      3,
      'what is planned beyond the horizon is due: the clock was set back',
    )
    await isAbout(store.nextDueIn('mux'), 0)
    t.equal(await store.nextDueIn('peertube'), undefined, 'each platform for itself')
    await store.close()
  })

  t.test(`${kind}: concurrent claims share the due rows`, async (t) => {
    const store = await openStore(url(), 10)
    for (let row = 0; row < 40; row++)
      await store.insert(aVideo({ stage: 'processing', nextCheckAt: 1 + row }))
    const query = { platform: 'sandbox', ready: false, claim: 60_000, horizon: far, limit: 7 }
    const claims = await Promise.all(Array.from({ length: 10 }, () => store.claimDue(query)))
    const ids = claims.flat().map(({ video }) => video.id)
    t.equal(new Set(ids).size, ids.length, 'none is claimed twice')
    const rest = await store.claimDue({ ...query, limit: 40 })
    t.equal(ids.length + rest.length, 40, 'none is lost')
    t.ok([...claims.flat(), ...rest].every(({ video }) => video.epoch === 2))
    await store.close()
  })

  t.test(`${kind}: claims ready videos by a query of their own`, async (t) => {
    const store = await openStore(url(), 10)
    const start = store.now() - 1_000
    const plans = [30, null, 20, 600_000, null]
    for (const at of plans)
      await store.insert(aVideo({ stage: 'ready', nextCheckAt: at === null ? null : start + at }))
    await store.insert(aVideo({ stage: 'ready', platform: 'mux' }))
    await store.insert(aVideo({ stage: 'processing', nextCheckAt: 1 }))
    const claim = async (horizon: number, limit: number) => {
      const query = { platform: 'sandbox', ready: true, claim: 900_000, horizon, limit }
      return (await store.claimDue(query)).map(({ dueAt }) => dueAt && dueAt - start)
    }
    t.strictSame(await claim(far, 3), [null, null, 20], 'first those that were never planned')
    t.strictSame(await claim(far, 3), [30])
    t.strictSame(await claim(far, 3), [])
    t.equal((await claim(700_000, 9)).length, 4, 'beyond the horizon')
    await store.close()
  })

  t.test(`${kind}: an idempotency key is stored with its video or not at all`, async (t) => {
    const store = await openStore(url(), 10)
    const claim = { client: 'cms', key: 'k', fingerprint: 'f' }
    const createdAt = store.now() - 10_000
    const [first, second] = [aVideo({ createdAt }), aVideo({ createdAt, stage: 'awaiting-upload' })]
    t.strictSame(await store.insert(first, claim), { video: first })
    const { holder } = await store.insert(second, claim)
    t.strictSame(
      { ...holder },
      { ...claim, videoId: first.id, response: null, createdAt },
      'the holder is returned',
    )
    t.equal(await store.find(second.id), undefined)
    t.ok((await store.insert(second, { ...claim, client: 'other' })).video, 'keys belong to a client')
    await store.releaseKey(first.id)
    t.equal(await store.findKey('cms', 'k'), undefined)
    const third = aVideo({ createdAt, stage: 'uploading' })
    await store.insert(third, claim)
    t.equal(await store.expireKeys(5_000, 10), 1, 'not that of an upload in progress')
    t.equal(await store.findKey('other', 'k'), undefined)
    await store.saveResponse(third.id, 'f:digest', '{"a":1}')
    t.match(await store.findKey('cms', 'k'), { fingerprint: 'f:digest', response: '{"a":1}' })
    await store.releaseKey(third.id)
    t.ok(await store.findKey('cms', 'k'), 'an answer is kept')
    t.equal(await store.expireKeys(5_000, 10), 0, 'its age counts from the end of the request')
    await sleep(5)
    t.equal(await store.expireKeys(0, 10), 1)
    t.equal(await store.findKey('cms', 'k'), undefined)
    await store.close()
  })

  t.test(
    `${kind}: deleted videos are removed in batches after their retention, but not their expectations`,
    async (t) => {
      const store = await openStore(url(), 10)
      const ages = [95, 94, 93, 92, 91, 89]
      const old = ages.map((days) => aVideo({ stage: 'deleted', updatedAt: store.now() - days * 24 * hour }))
      const others = (['deleting', 'failed', 'ready'] as const).map((stage) =>
        aVideo({ stage, updatedAt: 0 }),
      )
      for (const video of [...old, ...others]) await store.insert(video)
      await store.expectLeftover(old[1]?.id ?? '', 1, 0)
      const expire = (limit: number) => store.expireDeleted(90 * 24 * hour, limit)
      t.equal(await expire(2), 2)
      const rest = await Promise.all([expire(2), expire(2), expire(2)])
      t.equal(rest.reduce((sum, count) => sum + count) + (await expire(9)), 2)
      const kept = await Promise.all(old.map(async ({ id }) => (await store.find(id)) !== undefined))
      t.strictSame(kept, [false, true, false, false, false, true])
      await store.settleLeftover(old[1]?.id ?? '', 1)
      t.equal(await expire(9), 1)
      for (const { id } of others) t.ok(await store.find(id))
      t.same((await store.counts()).find(({ stage }) => stage === 'deleted')?.count, 1)
      await store.close()
    },
  )

  t.test(`${kind}: times and ids come from the store's clock, not from the process's`, async (t) => {
    const at = url()
    const stores =
      kind === 'memory' ? [await openStore(at, 5)] : [await openStore(at, 5), await openStore(at, 5)]
    const { now } = Date
    t.teardown(() => Object.assign(Date, { now }))
    const video = { title: 'x' }
    const made: string[] = []
    for (let index = 0; index < 12; index++) {
      // As processes whose clocks differ by an hour, and have just been changed.
      Date.now = () => now() + [0, hour, -hour][index % 3]!
      const store = stores[index % stores.length] as VideoStore
      const { video: row } = await store.insert(newVideo(video, 'sandbox', 1_000, store.now()))
      if (row) made.push(row.id)
      t.ok(Math.abs(store.now() - now()) < 2_000, 'the clock of the store')
      t.ok(Math.abs((row?.createdAt ?? 0) - now()) < 2_000, 'a new row')
      const changed = await store.update(row?.id ?? '', (row, time) => ({
        ...row,
        stage: 'ready',
        nextCheckAt: time + hour,
        updatedAt: time,
      }))
      t.ok(Math.abs((changed?.updatedAt ?? 0) - now()) < 2_000, 'a change')
      const due = { platform: 'sandbox', ready: true, claim: 60_000, horizon: 2 * hour, limit: 9 }
      t.strictSame(await store.claimDue(due), [], 'neither due nor too far ahead')
      await store.expectLeftover(row?.id ?? '', 1, 60_000)
      t.equal(await store.claimLeftover(60_000), undefined, 'a search in a minute is not due')
      t.equal(await store.expireKeys(60_000, 10), 0)
    }
    const [store] = stores as [VideoStore]
    t.strictSame(
      (await store.list({ limit: 20 })).map(({ id }) => id),
      made.toReversed(),
      'newest first',
    )
    for (const each of stores) await each.close()
  })
}

t.test(
  'postgres: texts that PostgreSQL cannot hold are stored and found',
  { skip: unavailable },
  async (t) => {
    const store = await openStore(postgres?.newUrl() ?? '', 10)
    const references = ['r\0', 'r', 'r\ud800', 'r\ufffd', 'r\\u0000', '"r"']
    for (const reference of references) await store.insert(aVideo({ reference }))
    for (const reference of references)
      t.strictSame(
        (await store.list({ reference, limit: 9 })).map((video) => video.reference),
        [reference],
      )
    t.strictSame(await store.list({ platform: 'sand\0box', limit: 1 }), [])
    for (const id of ['\0', '\ud800', `${aVideo().id}\0`]) {
      t.equal(await store.find(id), undefined)
      t.equal(await store.update(id, (row) => ({ ...row, checks: 1 })), undefined)
      t.strictSame(await store.events({ after: 0, upTo: 9, video: id, limit: 1 }), [])
    }
    await store.close()
  },
)

t.test('sqlite: an update is retried after a concurrent change', async (t) => {
  const store = openSqlite('memory:')
  const video = aVideo()
  await store.insert(video)
  let calls = 0
  const after = await store.update(video.id, (current) => {
    if (calls++ === 0) void store.update(video, (other) => ({ ...other, checks: 7 }))
    return { ...current, title: 'changed' }
  })
  t.match(after, { title: 'changed', checks: 7, version: 3 })
  t.equal(calls, 2)
  await store.close()
})

t.test('sqlite: neither claim scans or sorts the table', async (t) => {
  const file = newFile()
  await openSqlite(`sqlite:${file}`).close()
  const db = new DatabaseSync(file)
  for (const query of dueQueries) {
    const plan = db.prepare(`EXPLAIN QUERY PLAN ${query}`).all(1, 2, 3, 4) as { detail: string }[]
    const steps = plan.map(({ detail }) => detail)
    t.notMatch(steps.join('; '), /SCAN videos|TEMP B-TREE/)
    t.match(steps.join('; '), /SEARCH videos USING INDEX videos_(ready_)?due \(platform=\?/)
  }
  db.close()
})

t.test('sqlite: acknowledged writes are visible to the next process', async (t) => {
  const url = `sqlite:${newFile()}`
  const store = openSqlite(url)
  const video = aVideo()
  await store.insert(video)
  const other = openSqlite(url)
  t.strictSame(await other.find(video.id), video)
  await other.close()
  await store.close()
})

t.test(
  'sqlite: a file of a newer gateway and a file that is not a database are rejected with their reason',
  async (t) => {
    const newer = newFile()
    const db = new DatabaseSync(newer)
    db.exec('PRAGMA user_version = 999')
    db.close()
    t.throws(() => openSqlite(`sqlite:${newer}`), /DATABASE_URL.*version 999/)
    t.throws(() => openSqlite(`sqlite:${import.meta.filename}`), /DATABASE_URL.*not a database/)
    const gone = newFile()
    writeFileSync(`${gone}-wal`, 'what is left of it')
    t.throws(() => openSqlite(`sqlite:${gone}`), /DATABASE_URL.*write-ahead log/)
  },
)

t.test('sqlite: a locked database is an error with a code, and works again afterwards', async (t) => {
  const file = newFile()
  const store = openSqlite(`sqlite:${file}`)
  const locker = new DatabaseSync(file)
  locker.exec('BEGIN IMMEDIATE')
  await t.rejects(store.insert(aVideo()), { code: 'store-unavailable' })
  await t.resolves(store.ping(), 'a moment is no reason to leave the balancer')
  await sleep(2_100)
  await t.rejects(store.ping(), { code: 'store-unavailable' }, 'readiness is about writing')
  locker.exec('COMMIT')
  await t.resolves(store.ping(), 'and comes back by itself')
  await t.resolves(store.insert(aVideo()))
  locker.close()
  await store.close()
})

t.test('several processes can start concurrently on a new file', async (t) => {
  const script = new URL('../support/open-store.ts', import.meta.url)
  const processes = Array.from({ length: 4 }, () => fork(script))
  t.teardown(() => processes.map((child) => child.kill()))
  for (let round = 0; round < 25; round++) {
    const url = `sqlite:${newFile()}`
    const answers = processes.map(async (child) => {
      const [error] = await once(child, 'message')
      return error
    })
    for (const child of processes) child.send(url)
    t.strictSame(await Promise.all(answers), [null, null, null, null])
  }
})
