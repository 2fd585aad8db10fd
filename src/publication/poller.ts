import { check, longestRetryAfter } from './check.ts'
import type { Gateway } from './gateway.ts'
import type { Video } from './video.ts'

export interface Poller {
  /** A row is due at this time (ms since the epoch), which may be earlier than the poller planned to look. */
  wake(at: number): void
  /** Takes no more rows and waits for the checks under way. */
  stop(): Promise<void>
}

/** How long the poller sleeps at most, for rows that another process planned; also after a failing store. In ms. */
const longestSleep = 1_000
/** And at least, in ms: what falls due meanwhile is claimed in one transaction. */
const shortestSleep = 20
/**
 * Watches the videos. There is no queue beside the store: rows that are due are claimed there, at most
 * `pollConcurrency` are checked at once, and in between the poller sleeps until the next one is due.
 */
export function startPoller(gateway: Gateway): Poller {
  const { pollConcurrency, claim, uploadLease, backoff } = gateway.policy
  // No check is planned further ahead than this; one that is was planned before the clock was set back.
  const longestDelay = Math.max(backoff.initial, backoff.max * (1 + backoff.jitter))
  const horizon = Math.max(claim, longestDelay, longestRetryAfter) + 10_000
  const running = new Set<Promise<void>>()
  let timer: NodeJS.Timeout | undefined
  let plannedAt = 0
  /** More rows were due than there were places. */
  let full = false
  let stopped = false
  /** Between the date and the clock that nobody sets, in ms. */
  let distance = Date.now() - performance.now()
  let quietUntil = 0

  /**
   * Whether leases can be trusted. When the clock was set (or the machine slept), those of living uploads look dead
   * until their holders, in this process or another, have renewed them. That they do by timers, so it is waited for.
   */
  function settled(now: number): boolean {
    const elapsed = performance.now()
    if (Math.abs(now - elapsed - distance) > uploadLease / 3) quietUntil = elapsed + uploadLease
    distance = now - elapsed
    return elapsed >= quietUntil
  }

  function look(): void {
    if (stopped) return
    const now = Date.now()
    if (!settled(now)) {
      plan(now + longestSleep)
      return
    }
    const free = pollConcurrency - running.size
    try {
      const due = gateway.store.claimDue(now, now + claim, now + horizon, free)
      for (const video of due) start(video, now)
      full = due.length === free
      if (!full) plan(gateway.store.nextDueAt() ?? Number.POSITIVE_INFINITY)
    } catch (error) {
      gateway.log.error({ err: error }, 'the poller cannot use the store')
      plan(now + longestSleep)
    }
  }

  function plan(at: number): void {
    if (stopped) return
    clearTimeout(timer)
    const sleep = Math.min(Math.max(at - Date.now(), shortestSleep), longestSleep)
    plannedAt = Date.now() + sleep
    timer = setTimeout(look, sleep)
  }

  function start(video: Video, now: number): void {
    const lagSeconds = Math.max(0, now - (video.nextCheckAt ?? now)) / 1000
    gateway.observer.polled({ platform: video.platform, lagSeconds })
    const run = check(gateway, video).finally(() => {
      running.delete(run)
      // Places are refilled by the quarter: a claim is one transaction however many rows it takes.
      if (full && pollConcurrency - running.size >= pollConcurrency / 4) look()
    })
    running.add(run)
  }

  plan(0)
  return {
    wake(at) {
      if (at < plannedAt) plan(at)
    },
    async stop() {
      stopped = true
      clearTimeout(timer)
      await Promise.all(running)
    },
  }
}
