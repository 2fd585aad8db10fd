import type { Policy } from './gateway.ts'
import type { VideoStore } from './store.ts'

/** Tells whether an expired lease means that its upload is dead. */
export interface LeaseWatch {
  /** Whether leases are reliable now; called right before a lease is evaluated. */
  areTrusted(): boolean
  /** Reports the time, in ms, in which the database was unavailable or locked, so that no lease could be renewed. */
  storeWasHeld(ms: number): void
}

/**
 * Tells whether leases can be trusted. After the database's clock was changed, the machine slept, or the database was
 * locked for long, the leases of active uploads look expired until their holders, in any process, have renewed them.
 * The holders do so by timers, so leases are not trusted for that time.
 */
export function watchLeases(store: VideoStore, { uploadLease }: Policy): LeaseWatch {
  /** Difference between the store's clock and the monotonic clock, in ms. */
  let offset = store.now() - performance.now()
  let pausedUntil = 0
  const pauseAfter = (ms: number) => {
    if (ms > uploadLease / 3) pausedUntil = performance.now() + uploadLease
  }
  return {
    areTrusted() {
      const now = store.now()
      const elapsed = performance.now()
      pauseAfter(Math.abs(now - elapsed - offset))
      offset = now - elapsed
      return elapsed >= pausedUntil
    },
    storeWasHeld: pauseAfter,
  }
}
