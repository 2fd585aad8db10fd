import { AsyncLocalStorage } from 'node:async_hooks'
import type { WebhookDeliveries } from '../events/webhooks.ts'
import type { CircuitState } from '../platform/tools.ts'
import type { Gateway } from '../publication/gateway.ts'
import { startHousekeeping } from '../publication/housekeeping.ts'
import { type LeftoverSearch, startLeftoverSearch } from '../publication/leftovers.ts'
import { type Poller, startPoller } from '../publication/poller.ts'
import { startStrandedSweep } from '../publication/stranded.ts'

/**
 * The work that no request waits for. It exists before it is started, so that what wakes it can be wired first; until
 * then nothing happens.
 */
export interface Background {
  start(gateway: Gateway, startDeliveries: () => WebhookDeliveries | undefined): void
  /** Reports that a row of the platform becomes due in this number of ms. */
  wakePoller(platform: string, ms: number): void
  /** Reports a change of the platform's circuit. */
  circuit(platform: string, state: CircuitState): void
  /** Reports that an event was written. */
  eventWritten(): void
  /** Reports that a webhook endpoint or a delivery was changed. */
  webhooksChanged(): void
  /** Begins no more work, and waits for the work in progress. */
  stop(): Promise<void>
}

export function createBackground(): Background {
  let poller: Poller | undefined
  let leftovers: LeftoverSearch | undefined
  let deliveries: WebhookDeliveries | undefined
  let stopSweeps = () => {}

  return {
    start(gateway, startDeliveries) {
      poller = startPoller(gateway)
      deliveries = startDeliveries()
      const stops = [startHousekeeping(gateway), startStrandedSweep(gateway)]
      stopSweeps = () => stops.forEach((stop) => void stop())
      leftovers = startLeftoverSearch(gateway)
    },
    // Later work of the poller does not belong to the request that woke it.
    wakePoller: AsyncLocalStorage.bind((platform: string, ms: number) => poller?.wake(platform, ms)),
    circuit: (platform, state) => poller?.circuit(platform, state),
    eventWritten: () => deliveries?.wake(),
    webhooksChanged: () => deliveries?.changed(),
    async stop() {
      stopSweeps()
      await Promise.all([poller?.stop(), leftovers?.stop(), deliveries?.stop()])
    },
  }
}
