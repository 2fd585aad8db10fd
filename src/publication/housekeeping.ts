import { setTimeout as sleep } from 'node:timers/promises'
import type { Gateway } from './gateway.ts'

/** How long an idempotency key is remembered, and how often old ones are looked for. In ms. */
export const keyLifetimeMs = 24 * 3_600_000
const intervalMs = 3_600_000
/** Keys per statement: a batch takes a few milliseconds, in which nothing else runs. */
const batchSize = 200
/** Pause between two batches, in ms: 500,000 keys are deleted in about a minute. */
const pauseMs = 20

/**
 * Deletes old idempotency keys, at startup and then every hour, in small batches.
 * @returns a function that stops it
 */
export function startHousekeeping(gateway: Gateway): () => void {
  let stopped = false
  let running = false

  async function expireKeys(): Promise<void> {
    if (running) return
    running = true
    try {
      while (!stopped && (await gateway.store.expireKeys(keyLifetimeMs, batchSize)) === batchSize)
        await sleep(pauseMs)
    } catch (error) {
      gateway.log.warn({ err: error }, 'old idempotency keys are kept for another hour')
    } finally {
      running = false
    }
  }

  const timer = setInterval(expireKeys, intervalMs).unref()
  void expireKeys()
  return () => {
    stopped = true
    clearInterval(timer)
  }
}
