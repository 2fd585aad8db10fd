import { setTimeout as sleep } from 'node:timers/promises'
import type { Gateway } from './gateway.ts'

/** Time for which an idempotency key is kept after the end of its request, in ms. */
export const keyLifetimeMs = 24 * 3_600_000
/** Interval between searches for old rows, in ms. */
const intervalMs = 3_600_000
/** Rows per statement: a batch blocks the process for a few milliseconds. */
const batchSize = 200
/** Pause between two batches, in ms: 500,000 rows are deleted in about a minute. */
const pauseMs = 20

/**
 * Deletes old idempotency keys, events and deliveries, and the rows of videos that were deleted long ago, at startup and
 * then every hour, in small batches. Every process does: the store gives each row to one of them.
 * @returns a function that stops it
 */
export function startHousekeeping({ store, policy, log }: Gateway): () => void {
  let stopped = false
  let running = false

  async function run(): Promise<void> {
    if (running) return
    running = true
    await expire('idempotency keys', () => store.expireKeys(keyLifetimeMs, batchSize))
    await expire('deleted videos', () => store.expireDeleted(policy.deletedRetention, batchSize))
    await expire('events', () => store.expireEvents(policy.eventRetention, batchSize))
    await expire('deliveries', () => store.expireDeliveries(policy.eventRetention, batchSize))
    running = false
  }

  async function expire(what: string, batch: () => Promise<number>): Promise<void> {
    try {
      while (!stopped && (await batch()) === batchSize) await sleep(pauseMs)
    } catch (error) {
      log.warn({ err: error }, `could not delete old ${what}; retrying in an hour`)
    }
  }

  const timer = setInterval(run, intervalMs).unref()
  void run()
  return () => {
    stopped = true
    clearInterval(timer)
  }
}
