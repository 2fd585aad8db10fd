import { setTimeout as sleep } from 'node:timers/promises'
import { GatewayError } from '../errors.ts'
import type { Gateway } from './gateway.ts'
import { StoreBusyError } from './store.ts'

/** How long callers wait while another process holds the store without writing, and in total. In ms. */
const heldPatienceMs = 2_000
const callerPatienceMs = 10_000
/** How long a result waits to be stored, in ms: nothing has to be asked again as long as it is not given up. */
const resultPatienceMs = 30_000
/** The same for a store that fails, in ms: a full disk or a lost file seldom mends itself. */
const failurePatienceMs = 3_000
/** Delay before the first retry, doubled for each further one up to the last, in ms. */
const firstDelayMs = 5
const longestDelayMs = 50

/**
 * Runs work on the store that a caller asked for. While another process holds the store, tries again without blocking
 * the event loop; once it has been held for two seconds, further calls fail at their first attempt. Where other
 * processes write all the time, it waits for its turn, up to ten seconds.
 * @throws StoreBusyError
 */
export function askStore<T>(gateway: Gateway, work: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + callerPatienceMs
  return retry(gateway, work, (error) =>
    error instanceof StoreBusyError ? Math.min(error.since + heldPatienceMs, deadline) : 0,
  )
}

/**
 * As `askStore`, for what has already happened on a platform: it is worth a longer wait, also while the store fails.
 * If it is not stored, the lease or claim of the row expires and the poller asks the platform.
 * @throws GatewayError `store-unavailable` after 30 seconds, or 3 where the store fails; and when the process gives up
 * what is still under way
 */
export function storeResult<T>(gateway: Gateway, work: () => Promise<T>): Promise<T> {
  const begun = performance.now()
  return retry(
    gateway,
    work,
    (error) => begun + (error instanceof StoreBusyError ? resultPatienceMs : failurePatienceMs),
  )
}

async function retry<T>(
  { signal }: Gateway,
  work: () => Promise<T>,
  deadlineOf: (error: GatewayError) => number,
): Promise<T> {
  for (let delay = firstDelayMs; ; delay = Math.min(delay * 2, longestDelayMs)) {
    try {
      return await work()
    } catch (error) {
      const isAway = error instanceof GatewayError && error.code === 'store-unavailable'
      if (!isAway || signal.aborted) throw error
      if (performance.now() >= deadlineOf(error)) throw error
    }
    // The jitter keeps processes that wait for each other from trying at the same time.
    await sleep(delay * (0.5 + Math.random() / 2))
  }
}
