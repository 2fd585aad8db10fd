import { exchangeMs, nextDeliveryIn } from '../outbound/delivery.ts'
import { createAlarm } from '../publication/alarm.ts'
import { askStore } from '../publication/store-retry.ts'
import type { DeliveryContext } from './attempt.ts'
import { type DeliveryLane, startDeliveryLane } from './delivery-lane.ts'
import { createDeliveryPlaces, type PlaceLimits } from './delivery-places.ts'

/** The times of deliveries, in ms, and their number. */
export interface WebhookPolicy extends Pick<DeliveryContext, 'exchange' | 'retryIn' | 'failingLimit'> {
  /** Time after which another process may make a claimed delivery. Longer than an exchange and the storing of its result. */
  claim: number
  /** Interval of the checks for endpoints, and for events that other processes wrote. */
  interval: number
  /** Time that deliveries in progress have to finish when the process stops. */
  grace: number
  places: PlaceLimits
}

export const defaultWebhookPolicy: WebhookPolicy = {
  exchange: exchangeMs,
  retryIn: nextDeliveryIn,
  failingLimit: 5 * 24 * 3_600_000,
  claim: 60_000,
  interval: 2_000,
  grace: 2_000,
  places: { total: 64, perEndpoint: 8, reserved: 2 },
}

export interface WebhookDeliveries {
  /** Reports that an event was written in this process. */
  wake(): void
  /** Reports that an endpoint or a delivery was changed in this process. */
  changed(): void
  /** Claims no more deliveries; those in progress have a short time to finish, and are then aborted. */
  stop(): Promise<void>
}

export type WebhookOptions = Omit<DeliveryContext, keyof WebhookPolicy | 'signal' | 'changed'> & {
  policy: WebhookPolicy
}

/** Time in which changes that come together are waited for, in ms: their deliveries are added in one transaction. */
const wakeMs = 20
/** Events per transaction, which writes a row per event and endpoint. */
const batchSize = 50
/** Failures of the store that are no further apart than this, in ms, are logged once. */
const outageMs = 60_000

/**
 * Delivers events to endpoints: adds the deliveries of new events, and makes those that are due, in one lane per
 * endpoint. Any number of processes do so. Without an endpoint that is enabled, it reads the list of endpoints every
 * `interval`, and does nothing else.
 */
export function startWebhookDeliveries(options: WebhookOptions): WebhookDeliveries {
  const { store, policy, log } = options
  const lanes = new Map<string, DeliveryLane>()
  /** The lanes whose endpoint is disabled or gone, until their last delivery has ended. */
  const closing = new Set<Promise<void>>()
  const abort = new AbortController()
  const alarm = createAlarm()
  let failedAt = Number.NEGATIVE_INFINITY
  const changed = () => alarm.setIn(wakeMs)
  const context = {
    ...options,
    ...policy,
    places: createDeliveryPlaces(policy.places),
    signal: abort.signal,
    changed,
    storeFailed(error: unknown) {
      const now = performance.now()
      if (now - failedAt > outageMs) log.warn({ err: error }, 'webhooks cannot be delivered; trying again')
      failedAt = now
    },
  }

  async function run(): Promise<void> {
    while (await alarm.rings()) alarm.setIn(await look())
  }

  /** @returns ms until the next check */
  async function look(): Promise<number> {
    try {
      const endpoints = await store.endpoints()
      keepLanes(endpoints.filter(({ enabled }) => enabled).map(({ id }) => id))
      if (lanes.size === 0) return policy.interval
      const hasMore = await askStore(context, () => store.fanOut(batchSize))
      for (const [id, ms] of await store.nextDeliveriesIn()) if (ms < policy.interval) lanes.get(id)?.wake(ms)
      return hasMore ? 0 : policy.interval
    } catch (error) {
      context.storeFailed(error)
      return policy.interval
    }
  }

  function keepLanes(enabled: readonly string[]): void {
    for (const [id, lane] of lanes) {
      if (enabled.includes(id)) continue
      lanes.delete(id)
      const closed = lane.stop().finally(() => closing.delete(closed))
      closing.add(closed)
    }
    for (const id of enabled) if (!lanes.has(id)) lanes.set(id, startDeliveryLane(id, context))
  }

  alarm.setIn(0)
  const looking = run()
  return {
    wake() {
      if (lanes.size > 0) alarm.setIn(wakeMs)
    },
    changed,
    async stop() {
      alarm.stop()
      const timer = setTimeout(() => abort.abort(), policy.grace).unref()
      await looking
      await Promise.all([...closing, ...[...lanes.values()].map((lane) => lane.stop())])
      clearTimeout(timer)
      await options.dispatcher.destroy()
    },
  }
}
