import { GatewayError } from '../errors.ts'
import type { HintReader, Notification } from '../platform/platform.ts'
import type { Gateway } from './gateway.ts'
import type { Video } from './video.ts'

/** Minimum time between two checks of a video because of webhooks, in ms. */
export const hintPauseMs = 500
/** The same for a ready video, whose metadata is fetched again when a client reads it. */
const readyPauseMs = 60_000
/** Time to find the videos that a webhook is about, in ms. */
const readMs = 10_000

/** Outcome of a webhook; also the label of the metric. */
export const hintOutcomes = ['accepted', 'nothing-to-do', 'unknown-video', 'rejected', 'failed'] as const
export type HintOutcome = (typeof hintOutcomes)[number]

/**
 * Returns the reader for the webhooks of a platform.
 * @throws GatewayError `not-found` that names the missing part
 */
export function hintReaderOf({ platforms }: Gateway, name: string): HintReader {
  const platform = platforms.get(name)
  if (!platform) throw new GatewayError('not-found', 'No platform with this name is configured.')
  const { hints } = platform
  if (!hints)
    throw new GatewayError(
      'not-found',
      `${name} has no webhooks that the gateway can verify. The gateway polls instead.`,
    )
  if (!hints.configured)
    throw new GatewayError('not-found', `Set ${hints.variable} to accept webhooks of ${name}.`)
  return hints
}

/**
 * Accepts a webhook of a platform: the videos that it is about become due for a check now. The gateway uses nothing
 * else of it, because it may be forged, late, repeated or lost. The poller would find the same changes without it.
 * @throws GatewayError like `HintReader.read`
 */
export async function takeHint(
  gateway: Gateway,
  platform: string,
  notification: Notification,
): Promise<void> {
  const { observer, signal } = gateway
  const reader = hintReaderOf(gateway, platform)
  try {
    const ids = await reader.read(notification, AbortSignal.any([signal, AbortSignal.timeout(readMs)]))
    if (ids.length === 0) observer.hinted({ platform, outcome: 'nothing-to-do' })
    for (const id of ids) observer.hinted({ platform, outcome: await bringForward(gateway, platform, id) })
  } catch (error) {
    const forged = error instanceof GatewayError && error.code === 'invalid-signature'
    observer.hinted({ platform, outcome: forged ? 'rejected' : 'failed' })
    throw error
  }
}

async function bringForward(gateway: Gateway, platform: string, id: string): Promise<HintOutcome> {
  let outcome: HintOutcome = 'unknown-video'
  let delay: number | undefined
  await gateway.store.plan(id, (current, now) => {
    const known = current.platform === platform
    const changed = known ? hinted(current, now) : current
    outcome = known ? (changed === current ? 'nothing-to-do' : 'accepted') : 'unknown-video'
    delay = changed === current ? undefined : (changed.nextCheckAt ?? now) - now
    return changed
  })
  if (delay !== undefined) gateway.wakePoller(platform, delay)
  return outcome
}

/** Returns the row with an earlier check, or the same row if a check would find nothing or is due anyway. Pure. */
export function hinted(current: Video, now: number): Video {
  const { stage, nextCheckAt, checkedAt, epoch } = current
  const isReady = stage === 'ready'
  if (stage !== 'processing' && !isReady) return current
  // A check in progress may have read the state before the change: it will schedule another check.
  const isHeld = nextCheckAt !== null && nextCheckAt === current.claimedUntil && nextCheckAt > now
  if (isHeld && !isReady) return current.hintedEpoch === epoch ? current : { ...current, hintedEpoch: epoch }
  // A clock that was set back must not make the check later.
  const pause = isReady ? readyPauseMs : hintPauseMs
  const soonest = Math.min(Math.max(now, (checkedAt ?? 0) + pause), now + pause)
  // Checks that found a ready video missing keep their intervals.
  const isFixed = isHeld || (isReady && current.checks > 0)
  const at = isFixed || (nextCheckAt !== null && nextCheckAt <= soonest) ? nextCheckAt : soonest
  const isStale = !isReady || current.fetchedAt === null
  if (at === nextCheckAt && isStale) return current
  return { ...current, nextCheckAt: at, ...(isReady && { fetchedAt: null }) }
}
