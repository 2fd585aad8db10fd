import { createAlarm } from '../publication/alarm.ts'
import { askStore } from '../publication/store-retry.ts'
import type { WebhookEndpoint } from '../publication/webhooks.ts'
import { attemptDelivery, type DeliveryContext } from './attempt.ts'
import type { DeliveryPlaces } from './delivery-places.ts'

/** The deliveries to one endpoint. */
export interface DeliveryLane {
  /** Reports that a delivery becomes due in this number of ms. */
  wake(ms: number): void
  /** Claims no more deliveries and waits for those in progress. */
  stop(): Promise<void>
}

export interface LaneOptions extends DeliveryContext {
  places: DeliveryPlaces
  /** Time after which another process may make a claimed delivery, in ms. */
  claim: number
  /** Reports a failure of the store. */
  storeFailed(error: unknown): void
}

/** Pause after a failure of the store, in ms. */
const pauseMs = 1_000
/** Deliveries in progress from which on the lane waits for more places before it claims again: a claim costs a transaction. */
const refillBelow = 4

/**
 * Makes the deliveries to one endpoint. The due rows in the store are the only queue: the lane claims as many as it has
 * places for, so a slow or dead endpoint delays only its own deliveries.
 */
export function startDeliveryLane(endpointId: string, options: LaneOptions): DeliveryLane {
  const { store, places, claim, storeFailed } = options
  const running = new Set<Promise<void>>()
  const alarm = createAlarm()
  /** Whether more deliveries may be due than were claimed. */
  let saturated = false

  async function run(): Promise<void> {
    while (await alarm.rings()) await deliverDue()
  }

  async function deliverDue(): Promise<void> {
    if (saturated && !canRefill()) return
    const free = places.take(running.size)
    let started = 0
    try {
      if (free > 0) {
        const claimed = await askStore(options, () => store.claimDeliveries(endpointId, claim, free))
        // Read after the claim: the endpoint may have another URL or secret than before.
        const endpoint = claimed.length > 0 ? await store.findEndpoint(endpointId) : undefined
        // Otherwise the claims expire.
        if (endpoint?.enabled) for (const delivery of claimed) start(endpoint, delivery)
        started = endpoint?.enabled ? claimed.length : 0
        saturated = claimed.length === free
      } else saturated = true
    } catch (error) {
      storeFailed(error)
      alarm.setIn(pauseMs)
    } finally {
      places.giveBack(free - started)
    }
    // Deliveries may have ended during the claim.
    if (saturated && running.size === 0) alarm.setIn(0)
  }

  function start(endpoint: WebhookEndpoint, delivery: Parameters<typeof attemptDelivery>[2]): void {
    const attempt = attemptDelivery(options, endpoint, delivery)
      .catch(storeFailed)
      .finally(() => {
        running.delete(attempt)
        places.giveBack(1)
        if (saturated && canRefill()) alarm.setIn(0)
      })
    running.add(attempt)
  }

  const canRefill = () => running.size <= refillBelow

  const claiming = run()
  return {
    wake: (ms) => alarm.setIn(Math.max(0, ms)),
    async stop() {
      alarm.stop()
      await claiming
      await Promise.all(running)
    },
  }
}
