import { setTimeout as sleep } from 'node:timers/promises'
import type { Log } from '../platform/tools.ts'
import type { VideoStore } from '../publication/store.ts'

/** Interval of the checks that notice a database failure without any request. In ms. */
const intervalMs = 1_000

export interface StoreWatch {
  /** Looks now. @returns what is wrong, in words for an operator, or undefined */
  problem(): Promise<string | undefined>
  stop(): void
}

/** Checks whether the database is available, every second and on demand. Writes one log line when that changes. */
export function watchStore(store: VideoStore, log: Log): StoreWatch {
  const stopped = new AbortController()
  let last: string | undefined

  async function problem(): Promise<string | undefined> {
    const now = await problemOf(store)
    if (now !== last && now) log.error({ reason: now }, 'the database is unavailable')
    if (now !== last && !now) log.info({}, 'the database is available again')
    last = now
    return now
  }

  async function watch({ signal }: AbortController): Promise<void> {
    const pause = () => sleep(intervalMs, undefined, { signal, ref: false }).catch(() => {})
    for (await pause(); !signal.aborted; await pause()) await problem()
  }

  void watch(stopped)
  return { problem, stop: () => stopped.abort() }
}

async function problemOf(store: VideoStore): Promise<string | undefined> {
  try {
    await store.ping()
  } catch (error) {
    // The cause speaks of the database; it has no path.
    const { cause, message } = error as Error
    return `the database is unavailable: ${cause instanceof Error ? cause.message : message}`
  }
}
