import { existsSync, mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { v7 as uuidv7 } from 'uuid'
import { eventOf, type NewEvent } from '../publication/events.ts'
import type {
  Along,
  Change,
  EventRange,
  IdempotencyClaim,
  IdempotencyRecord,
  Inserted,
  Leftover,
  VideoCount,
  VideoStore,
} from '../publication/store.ts'
import type { Video } from '../publication/video.ts'
import { changeRow } from './change.ts'
import { claimed, parse } from './document.ts'
import { createEventList } from './events.ts'
import { watchFiles } from './file.ts'
import { createList } from './list.ts'
import { createLock, isBusy, pause } from './lock.ts'
import { migrate } from './migrations.ts'
import { prepareStatements } from './statements.ts'
import { mapStoreErrors } from './store-errors.ts'
import { createWebhookStore } from './webhooks.ts'

/** Time to wait at startup for another process that holds the database, or migrates it, in ms. */
const startWaitMs = 30_000
/** Size of a trial write in bytes. A video with the longest fields needs up to 60 KiB, its idempotency record included. */
const probeBytes = 65_536

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
    // SQLite would create an empty database, and delete the remains of the missing one.
    if (!existsSync(path) && existsSync(`${path}-wal`))
      throw new Error(
        `it is gone, and its write-ahead log ${path}-wal is not: put it back, restore the backup, or delete the log to begin with an empty database`,
      )
    db = new DatabaseSync(path, { timeout: startWaitMs })
    enableWal(db)
    // Checkpoints flush twice: after 32 MiB of log and not after 4 they are an eighth as many.
    db.exec('PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 8000')
    // 32 MiB of pages: some 40,000 videos are read without asking the kernel.
    db.exec('PRAGMA cache_size = -32768')
    migrate(db)
    // The file itself then has the schema, by which `watchFiles` recognizes it.
    db.exec('PRAGMA wal_checkpoint')
    return createStore(db, path === ':memory:' ? () => {} : watchFiles(db, path))
  } catch (error) {
    db?.close()
    throw new Error(`DATABASE_URL: cannot use ${path}: ${(error as Error).message}`, { cause: error })
  }
}

/** Turns WAL on. SQLite itself does not wait when another process does the same at this moment. */
function enableWal(db: DatabaseSync): void {
  for (const deadline = performance.now() + startWaitMs; ; ) {
    try {
      db.exec('PRAGMA journal_mode = WAL')
      return
    } catch (error) {
      if (!isBusy(error) || performance.now() > deadline) throw error
      pause(10)
    }
  }
}

/** @param expectFiles throws when the connection's files are no longer at their paths */
function createStore(db: DatabaseSync, expectFiles: () => void): VideoStore {
  const statements = prepareStatements(db)
  const lock = createLock(db)
  // Also for what still ends when the store is closed.
  const now = () => (db.isOpen ? (statements.now.get() as { now: number }).now : Date.now())
  const findKey = (client: string, key: string) =>
    statements.findKey.get(client, key) as IdempotencyRecord | undefined
  const find = (id: string) => parse(statements.find.get(id))
  const counts = () => statements.counts.all() as unknown as VideoCount[]
  const list = createList(db, counts)
  const events = createEventList(db)
  /** Every write that is acknowledged passes here. */
  const write = <T>(work: () => T): Promise<T> =>
    lock.write(() => {
      expectFiles()
      return work()
    })
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
  /**
   * Writes without waiting for the disk. The next durable write persists it; a power loss may undo it, or the loss of
   * the file, which the next durable write notices.
   */
  const writeWithoutFsync = <T>(work: () => T): Promise<T> =>
    lock.write(() => {
      db.exec('PRAGMA synchronous = NORMAL')
      try {
        return work()
      } finally {
        db.exec('PRAGMA synchronous = FULL')
      }
    })
  /** @param way `write` or `writeWithoutFsync` */
  const update = (
    given: string | Video,
    change: Change,
    way: typeof write,
    along?: Along,
  ): Promise<Video | undefined> => {
    const read = async (id: string) => {
      const row = find(id)
      return row && { row, now: now() }
    }
    const set = (current: Video, next: Video) => {
      const { id, version } = current
      const event = eventOf(current, next)
      const one = () => statements.update.run(JSON.stringify(next), id, version).changes > 0
      const all = () =>
        along || event ? transaction(() => one() && writeAlong(id, along ?? {}, event)) : one()
      // A reader may have an event by the time that the power fails.
      return (event ? write : way)(all)
    }
    return changeRow({ now, read, write: set }, given, change)
  }
  const writeAlong = (id: string, { leftover, freesKey }: Along, event?: NewEvent): true => {
    if (leftover?.searchIn === null) statements.settleLeftover.run(id, leftover.epoch)
    else if (leftover) statements.planLeftover.run(0, now() + leftover.searchIn, id, leftover.epoch)
    if (freesKey) statements.releaseKey.run(id)
    if (event) statements.insertEvent.run(uuidv7(), id, event.type, now(), JSON.stringify(event.video))
    return true
  }
  const add = (video: Video, claim?: IdempotencyClaim, searchIn?: number): Inserted => {
    const holder = claim && findKey(claim.client, claim.key)
    if (holder) return { holder }
    if (claim)
      statements.insertKey.run(claim.client, claim.key, claim.fingerprint, video.id, null, video.createdAt)
    statements.insert.run(video.id, JSON.stringify(video))
    if (searchIn !== undefined) expectLeftover(video.id, video.epoch, searchIn)
    return { video }
  }
  const expectLeftover = (videoId: string, epoch: number, searchIn: number) => {
    const time = now()
    statements.expectLeftover.run(videoId, epoch, time, time + searchIn)
  }
  const probeWrite = () => lock.probe(() => statements.probe.run(probeBytes))

  const durably = <T>(work: () => T) => write(() => transaction(work))
  return mapStoreErrors(
    {
      ...createWebhookStore(db, {
        now,
        durably,
        withoutFsync: (work) => writeWithoutFsync(() => transaction(work)),
      }),
      now,
      insert: (...row) => durably(() => add(...row)),

      find: async (id) => find(id),
      list: async (query) => list(query),

      update: (row, change, along) => update(row, change, write, along),
      plan: (row, change) => update(row, change, writeWithoutFsync),

      async claimDue({ platform, ready, claim, horizon, limit }) {
        // The time of the call, also when the lock is waited for: the clock may be changed meanwhile.
        const time = now()
        const select = ready ? statements.readyDue : statements.due
        if (select.all(platform, time, time + horizon, 1).length === 0) return []
        const claimRows = () => {
          const due = select.all(platform, time, time + horizon, limit).map((row) => parse(row) as Video)
          const until = now() + claim
          statements.claim.run(until, JSON.stringify(due.map((video) => video.id)))
          return due.map((video) => ({ video: claimed(video, until), dueAt: video.nextCheckAt }))
        }
        return writeWithoutFsync(() => transaction(claimRows))
      },
      async nextDueIn(platform) {
        const { at } = statements.nextDue.get(platform) as { at: number | null }
        return at === null ? undefined : at - now()
      },
      counts: async () => counts(),

      expectLeftover: (...values) => write(() => expectLeftover(...values)),
      settleLeftover: async (videoId, epoch) =>
        void (await write(() => statements.settleLeftover.run(videoId, epoch))),
      async claimLeftover(claim) {
        const time = now()
        if (!statements.leftoverDue.get(time)) return undefined
        return (await write(() => statements.claimLeftover.get(time, time + claim))) as Leftover | undefined
      },
      planLeftover: async (videoId, epoch, looks, searchIn) =>
        void (await write(() => statements.planLeftover.run(looks, now() + searchIn, videoId, epoch))),

      findKey: async (client, key) => findKey(client, key),
      saveResponse: async (videoId, fingerprint, response) =>
        void (await write(() => statements.saveResponse.run(fingerprint, response, now(), videoId))),
      releaseKey: async (videoId) => void (await write(() => statements.releaseKey.run(videoId))),
      expireKeys: async (age, limit) =>
        Number((await writeWithoutFsync(() => statements.expireKeys.run(now() - age, limit))).changes),
      expireDeleted: async (age, limit) =>
        Number((await writeWithoutFsync(() => statements.expireDeleted.run(now() - age, limit))).changes),
      eventRange: async () => ({ ...(statements.eventRange.get() as unknown as EventRange) }),
      events: async (query) => events(query),
      expireEvents: async (age, limit) =>
        Number((await writeWithoutFsync(() => statements.expireEvents.run(now() - age, limit))).changes),
      async ping() {
        expectFiles()
        statements.ping.get()
      },
      connections: () => undefined,
      close: async () => db.close(),
    },
    lock,
    probeWrite,
  )
}
