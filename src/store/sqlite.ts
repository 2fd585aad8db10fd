import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { GatewayError } from '../errors.ts'
import type { IdempotencyRecord, VideoCount, VideoStore } from '../publication/store.ts'
import type { Stage, Video } from '../publication/video.ts'
import { migrate } from './migrations.ts'

/** How long a statement waits for another process's write, in ms. It blocks the event loop, so not long. */
const busyTimeout = 1000
/** SQLite's result code for a database that somebody else holds. */
const SQLITE_BUSY = 5

/**
 * Opens the store of `DATABASE_URL`: `sqlite:PATH` (made if missing) or `memory:` (gone with the process).
 * Both are SQLite. WAL with `synchronous=FULL`: what was acknowledged survives `kill -9` and loss of power.
 * Only plans of the poller do not wait for the disk: a lost one is made again.
 * @throws Error with one clear line when the file cannot be used
 */
export function openStore(url: string): VideoStore {
  const path = url === 'memory:' ? ':memory:' : url.replace(/^sqlite:/, '')
  let db: DatabaseSync | undefined
  try {
    if (path !== ':memory:') mkdirSync(dirname(path), { recursive: true })
    db = new DatabaseSync(path, { timeout: busyTimeout })
    logAhead(db)
    // Checkpoints flush twice: after 32 MiB of log and not after 4 they are an eighth as many.
    db.exec('PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 8000')
    // 32 MiB of pages: some 40,000 videos are read without asking the kernel.
    db.exec('PRAGMA cache_size = -32768')
    migrate(db)
    return createStore(db)
  } catch (error) {
    db?.close()
    throw new Error(`DATABASE_URL: cannot use ${path}: ${(error as Error).message}`, { cause: error })
  }
}

/** Turns WAL on. SQLite itself does not wait when another process does the same at this moment. */
function logAhead(db: DatabaseSync): void {
  for (const deadline = Date.now() + busyTimeout; ; ) {
    try {
      db.exec('PRAGMA journal_mode = WAL')
      return
    } catch (error) {
      // The lowest byte is the primary code (https://sqlite.org/rescode.html).
      const code = ((error as { errcode?: number }).errcode ?? 0) & 0xff
      if (code !== SQLITE_BUSY || Date.now() > deadline) throw error
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10)
    }
  }
}

function createStore(db: DatabaseSync): VideoStore {
  const statements = {
    insert: db.prepare('INSERT INTO videos (id, document) VALUES (?, ?)'),
    find: db.prepare('SELECT document FROM videos WHERE id = ?'),
    update: db.prepare('UPDATE videos SET document = ? WHERE id = ? AND version = ?'),
    due: db.prepare(dueQueries[0]),
    readyDue: db.prepare(dueQueries[1]),
    claim: db.prepare(
      `UPDATE videos SET document = json_set(document, '$.nextCheckAt', ?, '$.version', version + 1)
       WHERE id IN (SELECT value FROM json_each(?))`,
    ),
    nextDue: db.prepare(
      `SELECT min(next_check_at) AS at FROM videos
       WHERE platform = ? AND stage <> 'ready' AND next_check_at IS NOT NULL`,
    ),
    count: db.prepare('SELECT stage, count(*) AS n FROM videos GROUP BY stage'),
    counts: db.prepare('SELECT platform, stage, count(*) AS count FROM videos GROUP BY platform, stage'),
    insertKey: db.prepare('INSERT INTO idempotency_keys VALUES (?, ?, ?, ?, ?, ?)'),
    findKey: db.prepare('SELECT * FROM idempotency_keys WHERE client = ? AND key = ?'),
    answerKey: db.prepare('UPDATE idempotency_keys SET fingerprint = ?, response = ? WHERE videoId = ?'),
    releaseKey: db.prepare('DELETE FROM idempotency_keys WHERE videoId = ?'),
    expireKeys: db.prepare('DELETE FROM idempotency_keys WHERE createdAt < ?'),
    ping: db.prepare('SELECT 1 FROM videos LIMIT 1'),
  }
  const findKey = (client: string, key: string) =>
    statements.findKey.get(client, key) as IdempotencyRecord | undefined
  const find = (id: string) => parse(statements.find.get(id))
  const update: VideoStore['update'] = (id, change) => {
    for (;;) {
      const current = find(id)
      if (!current) return undefined
      const changed = change(current)
      if (changed === current) return current
      const next = { ...changed, version: current.version + 1 }
      if (statements.update.run(JSON.stringify(next), id, current.version).changes) return next
    }
  }
  const transaction = <T>(work: () => T): T => {
    db.exec('BEGIN IMMEDIATE')
    try {
      const result = work()
      db.exec('COMMIT')
      return result
    } catch (error) {
      if (db.isTransaction) db.exec('ROLLBACK')
      throw error
    }
  }
  /** Writes without waiting for the disk. The next durable write takes them along; loss of power undoes them. */
  const relaxed = <T>(work: () => T): T => {
    db.exec('PRAGMA synchronous = NORMAL')
    try {
      return work()
    } finally {
      db.exec('PRAGMA synchronous = FULL')
    }
  }

  // Writes the header page: the smallest write that reaches the disk.
  const probeWrite = () => {
    const { user_version } = db.prepare('PRAGMA user_version').get() as { user_version: number }
    transaction(() => db.exec(`PRAGMA user_version = ${user_version}`))
  }

  return guarded(
    {
      insert: (video, record) =>
        transaction(() => {
          const holder = record && findKey(record.client, record.key)
          if (holder) return holder
          if (record) {
            const { client, key, fingerprint, videoId, response, createdAt } = record
            statements.insertKey.run(client, key, fingerprint, videoId, response, createdAt)
          }
          statements.insert.run(video.id, JSON.stringify(video))
        }),

      find,

      list({ stages, platform, reference, before, limit }) {
        const where = [`stage IN (${stages.map(() => '?').join()})`]
        const values: string[] = [...stages]
        const also = (condition: string, value: string | undefined) => {
          if (value === undefined) return
          where.push(condition)
          values.push(value)
        }
        also('platform = ?', platform)
        also('reference = ?', reference)
        also('id < ?', before)
        // Ids are UUIDv7: their order is the order of creation (RFC 9562 §5.7).
        const sql = `SELECT document FROM videos WHERE ${where.join(' AND ')} ORDER BY id DESC LIMIT ?`
        return db
          .prepare(sql)
          .all(...values, limit)
          .map((row) => parse(row) as Video)
      },

      update,
      plan: (id, change) => relaxed(() => update(id, change)),

      claimDue({ platform, ready, now, until, horizon, limit }) {
        const select = ready ? statements.readyDue : statements.due
        if (select.all(platform, now, horizon, 1).length === 0) return []
        const claim = () => {
          const due = select.all(platform, now, horizon, limit).map((row) => parse(row) as Video)
          statements.claim.run(until, JSON.stringify(due.map((video) => video.id)))
          return due
        }
        return relaxed(() => transaction(claim))
      },
      nextDueAt: (platform) => (statements.nextDue.get(platform) as { at: number | null }).at ?? undefined,
      countByStage: () =>
        Object.fromEntries(
          (statements.count.all() as { stage: Stage; n: number }[]).map((row) => [row.stage, row.n]),
        ),

      counts: () => statements.counts.all() as unknown as VideoCount[],

      findKey,
      answerKey: (videoId, fingerprint, response) =>
        void statements.answerKey.run(fingerprint, response, videoId),
      releaseKey: (videoId) => void statements.releaseKey.run(videoId),
      expireKeys: (before) => void statements.expireKeys.run(before),
      ping: () => void statements.ping.get(),
      close: () => db.close(),
    },
    probeWrite,
  )
}

/**
 * Selects the rows of a platform that are due, by the index of `videos_due` or `videos_ready_due`. Two selects and not
 * an OR, so that each walks the index no further than its limit.
 */
function dueQuery(stages: string, time: string): string {
  const select = (when: string) =>
    `SELECT document FROM (SELECT document FROM videos WHERE platform = ?1 AND ${stages} AND ${time} ${when}
     ORDER BY ${time} LIMIT ?4)`
  return `${select('<= ?2')} UNION ALL ${select('> ?3')} LIMIT ?4`
}

/** Of videos that are not ready, and of those that are. Exported for the test of their query plans. */
export const dueQueries = [
  dueQuery("stage <> 'ready'", 'next_check_at'),
  dueQuery("stage = 'ready'", 'coalesce(next_check_at, 0)'),
] as const

function parse(row: Record<string, unknown> | undefined): Video | undefined {
  return row && (JSON.parse(row.document as string) as Video)
}

/**
 * Turns what SQLite throws (locked, full, gone) into the one error that callers know. After a failure `ping` tries
 * a real write, so that readiness comes back when writing does.
 */
function guarded(store: VideoStore, probeWrite: () => void): VideoStore {
  let failing = false
  const entries = Object.entries(store).map(([name, method]) => [
    name,
    (...args: unknown[]) => {
      try {
        if (name === 'ping' && failing) probeWrite()
        const result = (method as (...args: unknown[]) => unknown)(...args)
        if (name === 'ping') failing = false
        return result
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ERR_SQLITE_ERROR') throw error
        failing = true
        throw new GatewayError('store-unavailable', undefined, { retryAfter: 5, cause: error })
      }
    },
  ])
  return Object.fromEntries(entries) as VideoStore
}
