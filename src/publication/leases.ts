import type { Policy } from './gateway.ts'
import type { VideoStore } from './store.ts'

/** Whether a lease that has expired means that its upload is dead. */
export interface LeaseWatch {
  /** Asked right before a lease is judged. */
  areTrusted(): boolean
  /** The store was away, or held by another process, for so many ms: leases could not be renewed. */
  storeWasHeld(ms: number): void
}

/**
 * Tells whether leases can be trusted. When the store's clock was set (or the machine slept), or the store was locked for
 * long, those of living uploads look dead until their holders, in this process or another, have renewed them. They do so
 * by timers, so it is waited for.
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
