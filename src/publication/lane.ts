import type { CircuitState } from '../platform/tools.ts'
import { createAlarm } from './alarm.ts'
import { check, maxPollRetryAfterMs } from './check.ts'
import type { Gateway } from './gateway.ts'
import { StoreBusyError } from './store.ts'
import type { Video } from './video.ts'

/** The poller's work on one platform. */
export interface Lane {
  /** A row is due in so many ms, which may be earlier than the next look. */
  wake(ms: number): void
  circuit(state: CircuitState): void
  /** Claims no more rows and waits for the checks in progress. */
  stop(): Promise<void>
}

/** Longest sleep, for rows that another process planned; also after a failure of the store. In ms. */
const longestSleep = 1_000
/** Shortest sleep, in ms: what becomes due meanwhile is claimed in one transaction. */
const shortestSleep = 20
/** Part of the places that ready videos may take. */
const readyShare = 0.25
/** Part of the places that have to be free before more is claimed at once. */
const refillShare = 0.25
/** Until a check ends or the circuit changes. */
const untilWoken = Number.POSITIVE_INFINITY

/**
 * Checks the videos of one platform. There is no queue beside the store: rows that are due are claimed there, at most
 * `pollConcurrency` at a time, and in between the lane sleeps until the next one is due. Places that are left over go
 * to ready videos, a few per second. While the platform's circuit is open nothing is claimed.
 */
export function startLane(gateway: Gateway, platform: string): Lane {
  const { store, leases } = gateway
  const { pollConcurrency, claim, backoff, recheck } = gateway.policy
  // No check is planned further ahead than this; one that is was planned before the clock was set back.
  const longestDelay = Math.max(backoff.initial, backoff.max * (1 + backoff.jitter))
  const horizon = Math.max(claim, longestDelay, maxPollRetryAfterMs) + 10_000
  const readyHorizon = Math.max(claim, recheck.interval * 1.2) + 10_000
  const readyPlaces = Math.max(1, Math.floor(pollConcurrency * readyShare))
  const running = new Set<Promise<void>>()
  let readyRunning = 0
  /** Next time for ready videos, on the monotonic clock. */
  let readyAt = 0
  let circuit: CircuitState = 'closed'
  const alarm = createAlarm()
  /** Since when the store has failed every look, on the monotonic clock. */
  let awaySince: number | undefined
  /** More rows may be due than there were places. */
  let saturated = false

  async function run(): Promise<void> {
    while (await alarm.rings()) alarm.setIn(await checkDueVideos())
  }

  /** Claims what is due and starts its checks; one look at a time. @returns ms until the next look */
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
        // Leases that expired meanwhile are claimed once their holders had time to renew them.
        await store.claimDue({ ...query, limit: 0 })
        leases.storeWasHeld(performance.now() - awaySince)
        awaySince = undefined
        if (!leases.areTrusted()) return longestSleep
      }
      const due = await store.claimDue({ ...query, limit: free })
      const now = store.now()
      for (const video of due) {
        const lagSeconds = Math.max(0, now - (video.nextCheckAt ?? now)) / 1000
        gateway.observer.polled({ platform, lagSeconds })
        start(video)
      }
      saturated = due.length === free
      // Checks may have ended while these were claimed.
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
    for (const video of await store.claimDue(due)) start(video)
  }

  function start(video: Video): void {
    const ready = video.stage === 'ready' ? 1 : 0
    readyRunning += ready
    const run = check(gateway, video).finally(() => {
      running.delete(run)
      readyRunning -= ready
      if (!saturated) return
      // A trial that decided nothing is not repeated at once.
      if (circuit === 'half-open') alarm.setIn(longestSleep)
      else if (canRefill()) alarm.setIn(0)
    })
    running.add(run)
  }

  /** A claim is one transaction however many rows it takes, so places are refilled by the quarter. */
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
