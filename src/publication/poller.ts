import type { CircuitState } from '../platform/tools.ts'
import type { Gateway } from './gateway.ts'
import { startLane } from './lane.ts'

export interface Poller {
  /** Reports that a row of the platform becomes due in this number of ms. */
  wake(platform: string, ms: number): void
  /** Reports a change of the platform's circuit. */
  circuit(platform: string, state: CircuitState): void
  /** Claims no more rows and waits for the checks in progress. */
  stop(): Promise<void>
}

/**
 * Checks the videos, in one lane per configured platform: each has its own places, so that a platform that is slow,
 * hangs or is down delays its own videos alone. Rows of other platforms are left alone.
 */
export function startPoller(gateway: Gateway): Poller {
  const lanes = new Map(
    [...gateway.platforms.keys()].map((platform) => [platform, startLane(gateway, platform)]),
  )
  return {
    wake: (platform, ms) => lanes.get(platform)?.wake(ms),
    circuit: (platform, state) => lanes.get(platform)?.circuit(state),
    stop: async () => void (await Promise.all([...lanes.values()].map((lane) => lane.stop()))),
  }
}
