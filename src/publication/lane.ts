import type { CircuitState } from '../platform/tools.ts'
import { check, longestRetryAfter } from './check.ts'
import type { Gateway } from './gateway.ts'
import { StoreBusyError } from './store.ts'
import type { Video } from './video.ts'

/** Whether a lease that has expired means that its upload is dead. */
export interface LeaseWatch {
  /** @param now ms since the epoch */
  areTrusted(now: number): boolean
  /** Another process held the store for so many ms: leases could not be renewed. */
  storeWasHeld(ms: number): void
}

/** The poller's work on one platform. */
export interface Lane {
  /** A row is due at this time (ms since the epoch), which may be earlier than the next look. */
  wake(at: number): void
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

/**
 * Checks the videos of one platform. There is no queue beside the store: rows that are due are claimed there, at most
 * `pollConcurrency` at a time, and in between the lane sleeps until the next one is due. Places that are left over go
 * to ready videos, a few per second. While the platform's circuit is open nothing is claimed.
 */
export function startLane(gateway: Gateway, platform: string, leases: LeaseWatch): Lane {
  const { pollConcurrency, claim, backoff, recheck } = gateway.policy
  // No check is planned further ahead than this; one that is was planned before the clock was set back.
  const longestDelay = Math.max(backoff.initial, backoff.max * (1 + backoff.jitter))
  const horizon = Math.max(claim, longestDelay, longestRetryAfter) + 10_000
  const readyHorizon = Math.max(claim, recheck.interval * 1.2) + 10_000
  const readyPlaces = Math.max(1, Math.floor(pollConcurrency * readyShare))
  const running = new Set<Promise<void>>()
  let readyRunning = 0
  /** Next time for ready videos, on the monotonic clock. */
  let readyAt = 0
  let circuit: CircuitState = 'closed'
  let timer: NodeJS.Timeout | undefined
  let plannedAt = 0
  /** More rows were due than there were places. */
  let full = false
  let stopped = false

  function look(): void {
    // The circuit wakes the lane when a trial may go through.
    if (stopped || circuit === 'open') return
    const now = Date.now()
    if (!leases.areTrusted(now)) {
      plan(now + longestSleep)
      return
    }
    // In a half-open circuit one check is the trial.
    const free = (circuit === 'half-open' ? 1 : pollConcurrency) - running.size
    full = free <= 0
    if (full) return
    try {
      const due = gateway.store.claimDue({
        platform,
        ready: false,
        now,
        until: now + claim,
        horizon: now + horizon,
        limit: free,
      })
      for (const video of due) {
        const lagSeconds = Math.max(0, now - (video.nextCheckAt ?? now)) / 1000
        gateway.observer.polled({ platform, lagSeconds })
        start(video)
      }
      full = due.length === free
      if (full) return
      lookAtReady(now, free - due.length)
      plan(gateway.store.nextDueAt(platform) ?? Number.POSITIVE_INFINITY)
    } catch (error) {
      if (error instanceof StoreBusyError) {
        const held = performance.now() - error.since
        leases.storeWasHeld(held)
        plan(now + held)
        return
      }
      gateway.log.error({ err: error, platform }, 'the poller cannot use the store')
      plan(now + longestSleep)
    }
  }

  function lookAtReady(now: number, free: number): void {
    const elapsed = performance.now()
    const limit = Math.min(free, recheck.perSecond, readyPlaces - readyRunning)
    if (elapsed < readyAt || limit <= 0 || circuit !== 'closed') return
    readyAt = elapsed + longestSleep * 0.9
    const until = now + claim
    const due = { platform, ready: true, now, until, horizon: now + readyHorizon, limit }
    for (const video of gateway.store.claimDue(due)) start(video)
  }

  function plan(at: number): void {
    if (stopped) return
    clearTimeout(timer)
    const sleep = Math.min(Math.max(at - Date.now(), shortestSleep), longestSleep)
    plannedAt = Date.now() + sleep
    timer = setTimeout(look, sleep)
  }

  function start(video: Video): void {
    const ready = video.stage === 'ready' ? 1 : 0
    readyRunning += ready
    const run = check(gateway, video).finally(() => {
      running.delete(run)
      readyRunning -= ready
      if (!full) return
      // A trial that decided nothing is not repeated at once.
      if (circuit === 'half-open') plan(Date.now() + longestSleep)
      // Places are refilled by the quarter: a claim is one transaction however many rows it takes.
      else if (pollConcurrency - running.size >= pollConcurrency / 4) look()
    })
    running.add(run)
  }

  plan(0)
  return {
    wake(at) {
      if (at < plannedAt) plan(at)
    },
    circuit(state) {
      circuit = state
      if (state !== 'open') plan(0)
    },
    async stop() {
      stopped = true
      clearTimeout(timer)
      await Promise.all(running)
    },
  }
}
