import { GatewayError } from '../errors.ts'
import type { HintReader, Notification } from '../platform/platform.ts'
import type { Gateway } from './gateway.ts'
import type { Video } from './video.ts'

/** Shortest pause between two checks of a video that hints ask for, in ms. */
export const hintPauseMs = 500
/** The same for a ready video, whose metadata readers get anew as soon as they ask. */
const readyPauseMs = 60_000
/** Time to find out which videos a hint is about, in ms. */
const readMs = 10_000

/** What became of a hint; also the label of the metric. */
export const hintOutcomes = ['accepted', 'nothing-to-do', 'unknown-video', 'rejected', 'failed'] as const
export type HintOutcome = (typeof hintOutcomes)[number]

/**
 * What reads the webhooks of a platform.
 * @throws GatewayError `not-found` that says what is missing
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
 * Takes what a platform's webhook brought: the videos that it is about are due for a check now. A hint says that there
 * may be news, never which: it may be forged, late, doubled or lost, and the poller finds out the same as without it.
 * @throws GatewayError as `HintReader.read` does
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

/** The row once there may be news of its video. Pure. The same row where a check could find none, or is due anyway. */
export function hinted(current: Video, now: number): Video {
  const { stage, nextCheckAt, checkedAt, epoch } = current
  const isReady = stage === 'ready'
  if (stage !== 'processing' && !isReady) return current
  // A check may have asked the platform before there was news; it leaves another one.
  const isHeld = nextCheckAt !== null && nextCheckAt === current.claimedUntil && nextCheckAt > now
  if (isHeld && !isReady) return current.hintedEpoch === epoch ? current : { ...current, hintedEpoch: epoch }
  // A later check is not earlier because the clock was set back.
  const pause = isReady ? readyPauseMs : hintPauseMs
  const soonest = Math.min(Math.max(now, (checkedAt ?? 0) + pause), now + pause)
  // Checks in a row that miss a ready video keep their distance.
  const isFixed = isHeld || (isReady && current.checks > 0)
  const at = isFixed || (nextCheckAt !== null && nextCheckAt <= soonest) ? nextCheckAt : soonest
  const isStale = !isReady || current.fetchedAt === null
  if (at === nextCheckAt && isStale) return current
  return { ...current, nextCheckAt: at, ...(isReady && { fetchedAt: null }) }
}
