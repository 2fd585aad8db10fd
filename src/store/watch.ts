import type { Log } from '../platform/tools.ts'
import type { VideoStore } from '../publication/store.ts'

/** How often the store is looked at, so that a fault is noticed without any request. In ms. */
const intervalMs = 1_000

export interface StoreWatch {
  /** Looks now. @returns what is wrong, in words for an operator, or undefined */
  problem(): string | undefined
  stop(): void
}

/** Looks whether the store can be used, every second and on demand. Writes one log line when that changes. */
export function watchStore(store: VideoStore, log: Log): StoreWatch {
  let last: string | undefined

  function problem(): string | undefined {
    const now = problemOf(store)
    if (now !== last && now) log.error({ reason: now }, 'the store cannot be used')
    if (now !== last && !now) log.info({}, 'the store can be used again')
    last = now
    return now
  }

  const timer = setInterval(problem, intervalMs).unref()
  return { problem, stop: () => clearInterval(timer) }
}

function problemOf(store: VideoStore): string | undefined {
  try {
    store.ping()
  } catch (error) {
    // The cause speaks of the database; it has no path.
    const { cause, message } = error as Error
    return `the store is out of reach: ${cause instanceof Error ? cause.message : message}`
  }
}
