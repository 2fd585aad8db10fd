import { setTimeout as sleep } from 'node:timers/promises'
import type { Gateway } from './gateway.ts'
import { StoreBusyError } from './store.ts'

/** How long callers wait while another process holds the store without writing, and in total. In ms. */
const heldPatienceMs = 2_000
const callerPatienceMs = 10_000
/** How long a result waits to be stored, in ms: nothing has to be asked again as long as it is not given up. */
const resultPatienceMs = 30_000
/** Delay before the first retry, doubled for each further one up to the last, in ms. */
const firstDelayMs = 5
const longestDelayMs = 50

/**
 * Runs work on the store that a caller asked for. While another process holds the store, tries again without blocking
 * the event loop; once it has been held for two seconds, further calls fail at their first attempt. Where other
 * processes write all the time, it waits for its turn, up to ten seconds.
 * @throws StoreBusyError
 */
export function askStore<T>(gateway: Gateway, work: () => T): Promise<T> {
  const deadline = performance.now() + callerPatienceMs
  return retryWhileBusy(gateway, work, ({ since }) => Math.min(since + heldPatienceMs, deadline))
}

/**
 * As `askStore`, for what has already happened on a platform: it is worth a longer wait. If it fails, the lease or
 * claim of the row expires and the poller asks the platform.
 * @throws StoreBusyError after 30 seconds, and when the process gives up what is still under way
 */
export function storeResult<T>(gateway: Gateway, work: () => T): Promise<T> {
  const deadline = performance.now() + resultPatienceMs
  return retryWhileBusy(gateway, work, () => deadline)
}

async function retryWhileBusy<T>(
  { signal }: Gateway,
  work: () => T,
  deadlineOf: (error: StoreBusyError) => number,
): Promise<T> {
  for (let delay = firstDelayMs; ; delay = Math.min(delay * 2, longestDelayMs)) {
    try {
      return work()
    } catch (error) {
      if (!(error instanceof StoreBusyError) || signal.aborted) throw error
      if (performance.now() >= deadlineOf(error)) throw error
    }
    // The jitter keeps processes that wait for each other from trying at the same time.
    await sleep(delay * (0.5 + Math.random() / 2))
  }
}
