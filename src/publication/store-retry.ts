import { setTimeout as sleep } from 'node:timers/promises'
import { GatewayError } from '../errors.ts'
import type { Gateway } from './gateway.ts'
import { StoreBusyError } from './store.ts'

/** Aborts the work in progress. */
type Stoppable = Pick<Gateway, 'signal'>

/** Maximum wait of a caller while another process holds the database without writing, and in total. In ms. */
const heldPatienceMs = 2_000
const callerPatienceMs = 10_000
/** Time to retry storing a result, in ms. Once it is stored, the platform need not be asked again. */
const resultPatienceMs = 30_000
/** The same for a database that fails, in ms: a full disk or a lost file rarely recovers on its own. */
const failurePatienceMs = 3_000
/** Delay before the first retry, doubled for each further one up to the last, in ms. */
const firstDelayMs = 5
const longestDelayMs = 50

/**
 * Runs work on the database for a waiting caller. While another process holds the database, it retries without blocking
 * the event loop; once the database has been held for two seconds, further calls fail at their first attempt. While
 * other processes write all the time, it retries for up to ten seconds.
 * @throws StoreBusyError
 */
export function askStore<T>(gateway: Stoppable, work: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + callerPatienceMs
  return retry(gateway, work, (error) =>
    error instanceof StoreBusyError ? Math.min(error.since + heldPatienceMs, deadline) : 0,
  )
}

/**
 * Same as `askStore`, for the result of a platform call: it is worth a longer wait, even while the database fails.
 * If the result is not stored, the lease or claim of the row expires and the poller asks the platform.
 * @throws GatewayError `store-unavailable` after 30 seconds, or after 3 if the database fails, or when the process
 * aborts the work in progress
 */
export function storeResult<T>(gateway: Stoppable, work: () => Promise<T>): Promise<T> {
  const begun = performance.now()
  return retry(
    gateway,
    work,
    (error) => begun + (error instanceof StoreBusyError ? resultPatienceMs : failurePatienceMs),
  )
}

async function retry<T>(
  { signal }: Stoppable,
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
