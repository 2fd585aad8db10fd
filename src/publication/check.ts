import { GatewayError } from '../errors.ts'
import { CircuitOpenError, VideoMissingError } from '../platform/platform.ts'
import { attempt } from './attempt.ts'
import { backoffDelay } from './backoff.ts'
import { advance, callFor, type Gateway, platformOf } from './gateway.ts'
import { recoverProvisioning } from './provision.ts'
import { recheck } from './recheck.ts'
import { spread } from './refresh.ts'
import { finishRemoval } from './remove.ts'
import { storeResult } from './store-retry.ts'
import { reportFailure, reportSuccess } from './trouble.ts'
import type { Stage, Video } from './video.ts'

/** A platform may not know a new video everywhere at once: so many checks are forgiven. */
const firstChecks = 2

/** A platform that asks for more patience than this is asked again all the same. Milliseconds. */
export const longestRetryAfter = 600_000

/**
 * Checks one row that is due: asks the platform for its state, or carries on what a crash or a failure left behind. It
 * ends with its claim at the latest. Never throws: failures are logged, and the row is due again after the back-off.
 */
export async function check(gateway: Gateway, video: Video): Promise<void> {
  if (video.stage === 'ready') return recheck(gateway, video)
  let failure: unknown
  try {
    await attempt(gateway, video.id, (signal) => carryOn(gateway, video, signal))
    reportSuccess(gateway, video.platform)
  } catch (error) {
    if (gateway.signal.aborted) return
    failure = error
    reportFailure(gateway, video, error, 'check failed')
  }
  try {
    await storeResult(gateway, () => reschedule(gateway, video, failure))
  } catch (error) {
    // Its claim runs out by itself, so the row is not lost.
    gateway.log.error({ video: video.id, err: error }, 'check could not be rescheduled')
  }
}

async function carryOn(gateway: Gateway, video: Video, signal: AbortSignal): Promise<void> {
  switch (video.stage) {
    case 'provisioning':
      return recoverProvisioning(gateway, video, signal)
    case 'uploading':
      if (!gateway.uploads.has(video.id)) await reconcileUpload(gateway, video, signal)
      return
    case 'processing':
      return checkProcessing(gateway, video, signal)
    case 'deleting':
      return finishRemoval(gateway, video.id, signal)
    default:
      // Nothing is due in the other stages: a change came between the claim and now.
      return
  }
}

/** Asks for the state of a video in processing; collects its metadata before it turns `ready`. */
async function checkProcessing(gateway: Gateway, video: Video, signal: AbortSignal): Promise<void> {
  const platform = platformOf(gateway, video.platform)
  const call = callFor(gateway, video.id, signal)
  // What comes after the end of the check is dropped.
  const unchanged = (current: Video) => current.stage === 'processing' && !signal.aborted
  const fail = (code: string, message: string) =>
    advance(
      gateway,
      video.id,
      'processing-failed',
      { error: { code, message }, checkedAt: Date.now() },
      unchanged,
    )

  try {
    const status = await platform.status(video.slot, call)
    if (status.state === 'failed') return void fail('platform-processing-failed', status.message)
    if (status.state === 'awaiting-upload') {
      return void fail('platform-lost-content', 'the platform took the upload and does not have it any more')
    }
    if (status.state === 'ready') {
      const { slot } = gateway.store.find(video.id) ?? video
      const info = await platform.info(slot, call)
      const thumbnail = await platform.thumbnail(slot, call)
      const now = Date.now()
      const nextCheckAt = now + spread(gateway.policy.recheck.interval)
      const changes = { info, thumbnail, fetchedAt: now, checkedAt: now, nextCheckAt }
      await storeResult(gateway, () => advance(gateway, video.id, 'processed', changes, unchanged))
      return
    }
  } catch (error) {
    if (error instanceof VideoMissingError && video.checks >= firstChecks)
      return void fail('platform-video-missing', 'the platform does not know the video any more')
    if (!timedOut(gateway, video)) throw error
  }
  if (timedOut(gateway, video)) {
    const hours = gateway.policy.processingTimeout / 3_600_000
    fail('processing-timeout', `the platform was not done after ${Number(hours.toFixed(2))} h`)
  }
}

/**
 * Settles an upload whose end nobody saw: asks the platform whether it has the content.
 * @returns the stage it led to
 */
export async function reconcileUpload(
  gateway: Gateway,
  video: Video,
  signal: AbortSignal = gateway.signal,
): Promise<Stage | undefined> {
  const platform = platformOf(gateway, video.platform)
  const sameUpload = (current: Video) =>
    current.stage === 'uploading' && current.lease === video.lease && !signal.aborted
  const state = await platform.status(video.slot, callFor(gateway, video.id, signal)).then(
    (status) => status.state,
    (error) => {
      if (error instanceof VideoMissingError) return 'awaiting-upload' as const
      throw error
    },
  )
  const arrived = state !== 'awaiting-upload'
  const changes = arrived ? { nextCheckAt: Date.now() } : { bytesReceived: 0, bytesTotal: null }
  const settled = await storeResult(gateway, () =>
    advance(gateway, video.id, arrived ? 'upload-completed' : 'upload-cut', changes, sameUpload),
  )
  return settled?.stage
}

/** Plans the next check of a row that is still in the stage it was claimed in. */
function reschedule(gateway: Gateway, video: Video, failure: unknown): void {
  const now = Date.now()
  const retryAfter = failure instanceof GatewayError ? failure.retryAfter : undefined
  // While the circuit is open nobody was asked.
  const asked = !(failure instanceof CircuitOpenError)
  const wait = retryAfter === undefined ? 0 : Math.min(retryAfter * 1000, longestRetryAfter)
  const checks = asked ? video.checks + 1 : video.checks
  const checkedAt = asked ? now : video.checkedAt
  const delay = Math.max(backoffDelay(gateway.policy.backoff, checks), wait)
  gateway.store.plan(video.id, (current) => {
    const moved =
      current.stage !== video.stage ||
      current.stageSince !== video.stageSince ||
      current.lease !== video.lease
    if (moved || current.nextCheckAt === null) return current
    return { ...current, checks, checkedAt, nextCheckAt: now + delay }
  })
}

function timedOut(gateway: Gateway, video: Video): boolean {
  return Date.now() - video.stageSince >= gateway.policy.processingTimeout
}
