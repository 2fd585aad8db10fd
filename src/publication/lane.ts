import type { CircuitState } from '../platform/tools.ts'
import { createAlarm } from './alarm.ts'
import { check, maxPollRetryAfterMs } from './check.ts'
import type { Gateway } from './gateway.ts'
import { StoreBusyError } from './store.ts'
import type { Video } from './video.ts'

/** The poller's work on one platform. */
export interface Lane {
  /** Reports that a row becomes due in this number of ms, possibly before the next planned search. */
  wake(ms: number): void
  circuit(state: CircuitState): void
  /** Claims no more rows and waits for the checks in progress. */
  stop(): Promise<void>
}

/** Longest sleep, because another process may schedule rows; also the pause after a database failure. In ms. */
const longestSleep = 1_000
/** Shortest sleep, in ms: rows that become due in the meantime are claimed in one transaction. */
const shortestSleep = 20
/** Share of the concurrent checks that ready videos may use. */
const readyShare = 0.25
/** Share of the concurrent checks that must be free before the lane claims more. */
const refillShare = 0.25
/** Until a check ends or the circuit changes. */
const untilWoken = Number.POSITIVE_INFINITY

/**
 * Checks the videos of one platform. The due rows in the database are the only queue: the lane claims them, at most
 * `pollConcurrency` at a time, and sleeps until the next one is due. It uses spare capacity to check ready videos, a
 * few per second. While the platform's circuit is open it claims nothing.
 */
export function startLane(gateway: Gateway, platform: string): Lane {
  const { store, leases } = gateway
  const { pollConcurrency, claim, backoff, recheck } = gateway.policy
  // No check is scheduled further ahead than this; a row beyond it was scheduled before the clock was set back.
  const longestDelay = Math.max(backoff.initial, backoff.max * (1 + backoff.jitter))
  const horizon = Math.max(claim, longestDelay, maxPollRetryAfterMs) + 10_000
  const readyHorizon = Math.max(claim, recheck.interval * 1.2) + 10_000
  const readyPlaces = Math.max(1, Math.floor(pollConcurrency * readyShare))
  const running = new Set<Promise<void>>()
  let readyRunning = 0
  /** Earliest time of the next claim of ready videos, on the monotonic clock. */
  let readyAt = 0
  let circuit: CircuitState = 'closed'
  const alarm = createAlarm()
  /** Start of the current database outage, on the monotonic clock. */
  let awaySince: number | undefined
  /** Whether more rows may be due than could be claimed. */
  let saturated = false

  async function run(): Promise<void> {
    while (await alarm.rings()) alarm.setIn(await checkDueVideos())
  }

  /** Claims due rows and starts their checks; never runs concurrently. @returns ms until the next call */
  async function checkDueVideos(): Promise<number> {
    // The circuit wakes the lane when a trial may go through.
    if (circuit === 'open') return untilWoken
    if (!leases.areTrusted()) return longestSleep
    // In a half-open circuit one check is the trial.
    const free = (circuit === 'half-open' ? 1 : pollConcurrency) - running.size
    saturated = free <= 0 || (saturated && circuit === 'closed' && !canRefill())
    if (saturated) return untilWoken
    const query = { platform, ready: false, claim, horizon }
    const begun = performance.now()
    try {
      if (awaySince !== undefined) {
        // Leases that expired during the outage are claimed once their holders have had time to renew them.
        await store.claimDue({ ...query, limit: 0 })
        leases.storeWasHeld(performance.now() - awaySince)
        awaySince = undefined
        if (!leases.areTrusted()) return longestSleep
      }
      const due = await store.claimDue({ ...query, limit: free })
      const now = store.now()
      for (const { video, dueAt } of due) {
        const lagSeconds = Math.max(0, now - (dueAt ?? now)) / 1000
        gateway.observer.polled({ platform, lagSeconds })
        start(video)
      }
      saturated = due.length === free
      // Checks may have ended during the claim.
      if (saturated) return circuit === 'closed' && canRefill() ? 0 : untilWoken
      await checkReadyVideos(free - due.length)
      return clamp((await store.nextDueIn(platform)) ?? longestSleep)
    } catch (error) {
      awaySince ??= error instanceof StoreBusyError ? error.since : begun
      if (error instanceof StoreBusyError) return clamp(performance.now() - error.since)
      gateway.log.error({ err: error, platform }, 'poller cannot access the database')
      return longestSleep
    }
  }

  async function checkReadyVideos(free: number): Promise<void> {
    const elapsed = performance.now()
    const limit = Math.min(free, recheck.perSecond, readyPlaces - readyRunning)
    if (elapsed < readyAt || limit <= 0 || circuit !== 'closed') return
    readyAt = elapsed + longestSleep * 0.9
    const due = { platform, ready: true, claim, horizon: readyHorizon, limit }
    for (const { video } of await store.claimDue(due)) start(video)
  }

  function start(video: Video): void {
    const ready = video.stage === 'ready' ? 1 : 0
    readyRunning += ready
    const run = check(gateway, video).finally(() => {
      running.delete(run)
      readyRunning -= ready
      if (!saturated) return
      // A trial without a result is not repeated immediately.
      if (circuit === 'half-open') alarm.setIn(longestSleep)
      else if (canRefill()) alarm.setIn(0)
    })
    running.add(run)
  }

  /** A claim of any number of rows is one transaction, so the lane waits until it can claim several. */
  function canRefill(): boolean {
    return pollConcurrency - running.size >= pollConcurrency * refillShare
  }

  alarm.setIn(shortestSleep)
  const polling = run()
  return {
    wake: (ms) => alarm.setIn(clamp(ms)),
    circuit(state) {
      circuit = state
      if (state !== 'open') alarm.setIn(shortestSleep)
    },
    async stop() {
      alarm.stop()
      await polling
      await Promise.all(running)
    },
  }
}

function clamp(ms: number): number {
  return Math.min(Math.max(ms, shortestSleep), longestSleep)
}
