import type { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import { StoreBusyError } from '../publication/store.ts'

/** Timeout and interval of a write's attempts to get the lock, in ms. Other work continues in the meantime. */
const lockWaitMs = 10
const lockPauseMs = 1
/** Time between two such attempts, in ms. Callers in between fail without one. */
const attemptIntervalMs = 10
/** SQLite's result codes for a database that another connection holds (https://sqlite.org/rescode.html). */
const SQLITE_BUSY = 5
const SQLITE_LOCKED = 6

export interface Lock {
  /**
   * Runs a write; it may run several times, and only the last one has an effect. The first one runs immediately.
   * @throws StoreBusyError while another process holds the lock
   */
  write<T>(work: () => T): Promise<T>
  /** As `write`, but always makes an attempt. */
  probe<T>(work: () => T): Promise<T>
  /** Remembers that the lock is held, and returns the error to throw; undefined for an error of another kind. */
  heldBy(error: unknown): StoreBusyError | undefined
  /** Time for which other processes have held the lock without writing anything, in ms; 0 when it is free. */
  heldFor(): number
}

/**
 * Waits for SQLite's write lock without blocking the event loop, as SQLite's own busy timeout would. A write tries for
 * a few milliseconds, which is enough for the writes of other replicas, and then fails; callers that can wait retry,
 * see `store-retry.ts`. A lock that is held without writes is remembered: until a write succeeds, an attempt does not
 * wait at all.
 */
export function createLock(db: DatabaseSync): Lock {
  /** Changes whenever another connection has written (https://sqlite.org/pragma.html#pragma_data_version). */
  const dataVersion = db.prepare('PRAGMA data_version')
  let heldSince: number | undefined
  let version: unknown
  let othersWrite = true
  let nextAttempt = 0
  db.exec('PRAGMA busy_timeout = 0')

  function currentVersion(): unknown {
    try {
      return dataVersion.get()?.data_version
    } catch {
      // An exclusive lock: no other process writes.
      return version
    }
  }

  const lock: Lock = {
    async write(work) {
      if (heldSince !== undefined && performance.now() < nextAttempt) throw new StoreBusyError(heldSince)
      return lock.probe(work)
    },
    async probe(work) {
      const deadline = performance.now() + (othersWrite ? lockWaitMs : 0)
      for (;;) {
        try {
          const result = work()
          heldSince = undefined
          othersWrite = true
          return result
        } catch (error) {
          if (!isBusy(error)) throw error
          if (performance.now() >= deadline) throw lock.heldBy(error)
        }
        await sleep(lockPauseMs)
      }
    },
    heldBy(error) {
      if (!isBusy(error)) return undefined
      const now = performance.now()
      const before = version
      version = currentVersion()
      othersWrite = version !== before
      if (heldSince === undefined || othersWrite) heldSince = now
      nextAttempt = now + attemptIntervalMs
      return new StoreBusyError(heldSince, error)
    },
    heldFor: () => (heldSince === undefined ? 0 : performance.now() - heldSince),
  }
  return lock
}

/** Whether SQLite failed because another connection holds the database. */
export function isBusy(error: unknown): boolean {
  // The lowest byte is the primary code.
  const code = ((error as { errcode?: number }).errcode ?? 0) & 0xff
  return code === SQLITE_BUSY || code === SQLITE_LOCKED
}

/** Blocks the thread. */
export function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}
