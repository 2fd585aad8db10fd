import type { CircuitState } from '../platform/tools.ts'
import type { Gateway } from './gateway.ts'
import { type LeaseWatch, startLane } from './lane.ts'

export interface Poller {
  /** A row of the platform is due in so many ms. */
  wake(platform: string, ms: number): void
  /** The circuit of the platform changed. */
  circuit(platform: string, state: CircuitState): void
  /** Claims no more rows and waits for the checks in progress. */
  stop(): Promise<void>
}

/**
 * Checks the videos, in one lane per configured platform: each has its own places, so that a platform that is slow,
 * hangs or is down delays its own videos alone. Rows of other platforms are left alone.
 */
export function startPoller(gateway: Gateway): Poller {
  const leases = watchLeases(gateway)
  const lanes = new Map(
    [...gateway.platforms.keys()].map((platform) => [platform, startLane(gateway, platform, leases)]),
  )
  return {
    wake: (platform, ms) => lanes.get(platform)?.wake(ms),
    circuit: (platform, state) => lanes.get(platform)?.circuit(state),
    stop: async () => void (await Promise.all([...lanes.values()].map((lane) => lane.stop()))),
  }
}

/**
 * Tells whether leases can be trusted. When the store's clock was set (or the machine slept), or the store was locked for long,
 * those of living uploads look dead until their holders, in this process or another, have renewed them. They do so by
 * timers, so it is waited for.
 */
function watchLeases({ store, policy: { uploadLease } }: Gateway): LeaseWatch {
  /** Difference between the store's clock and the monotonic clock, in ms. */
  let offset = store.now() - performance.now()
  let pausedUntil = 0
  const pauseAfter = (ms: number) => {
    if (ms > uploadLease / 3) pausedUntil = performance.now() + uploadLease
  }
  return {
    areTrusted(now) {
      const elapsed = performance.now()
      pauseAfter(Math.abs(now - elapsed - offset))
      offset = now - elapsed
      return elapsed >= pausedUntil
    },
    storeWasHeld: pauseAfter,
  }
}
