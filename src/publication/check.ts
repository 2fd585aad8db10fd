import { GatewayError } from '../errors.ts'
import { VideoMissingError } from '../platform/platform.ts'
import { backoffDelay } from './backoff.ts'
import { advance, callFor, type Gateway, platformOf } from './gateway.ts'
import { recoverProvisioning } from './provision.ts'
import { finishRemoval } from './remove.ts'
import type { Stage, Video } from './video.ts'

/** A platform may not know a new video everywhere at once: so many checks are forgiven. */
const firstChecks = 2
/** Of a vendor's message, in characters. */
const longestMessage = 500

/** A platform that asks for more patience than this is asked again all the same. Milliseconds. */
export const longestRetryAfter = 600_000

/**
 * Looks after one row that is due: asks the platform where it stands, or carries on what a crash or a failure
 * left behind. Never throws: what went wrong is logged, and the row is due again after the back-off.
 */
export async function check(gateway: Gateway, video: Video): Promise<void> {
  let retryAfter: number | undefined
  try {
    await carryOn(gateway, video)
  } catch (error) {
    if (gateway.signal.aborted) return
    retryAfter = error instanceof GatewayError ? error.retryAfter : undefined
    gateway.log.warn(
      { video: video.id, platform: video.platform, stage: video.stage, err: error },
      'check failed',
    )
  }
  try {
    reschedule(gateway, video, retryAfter)
  } catch (error) {
    // Its claim runs out by itself, so the row is not lost.
    gateway.log.error({ video: video.id, err: error }, 'check could not be rescheduled')
  }
}

async function carryOn(gateway: Gateway, video: Video): Promise<void> {
  switch (video.stage) {
    case 'provisioning':
      return recoverProvisioning(gateway, video)
    case 'uploading':
      if (!gateway.uploads.has(video.id)) await reconcileUpload(gateway, video)
      return
    case 'processing':
      return checkProcessing(gateway, video)
    case 'deleting':
      return finishRemoval(gateway, video.id)
    default:
      // Nothing is due in the other stages: a change came between the claim and now.
      return
  }
}

/** Asks for the state of a video in processing; collects its metadata before it turns `ready`. */
async function checkProcessing(gateway: Gateway, video: Video): Promise<void> {
  const platform = platformOf(gateway, video.platform)
  const unchanged = (current: Video) => current.stage === 'processing'
  const fail = (code: string, message: string) =>
    advance(
      gateway,
      video.id,
      'processing-failed',
      { error: { code, message }, checkedAt: Date.now() },
      unchanged,
    )

  try {
    const status = await platform.status(video.slot, callFor(gateway, video.id))
    if (status.state === 'failed')
      return void fail('platform-processing-failed', status.message.slice(0, longestMessage))
    if (status.state === 'awaiting-upload') {
      return void fail('platform-lost-content', 'the platform took the upload and does not have it any more')
    }
    if (status.state === 'ready') {
      const { slot } = gateway.store.find(video.id) ?? video
      const info = await platform.info(slot, callFor(gateway, video.id))
      const thumbnail = await platform.thumbnail(slot, callFor(gateway, video.id))
      advance(gateway, video.id, 'processed', { info, thumbnail, checkedAt: Date.now() }, unchanged)
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
export async function reconcileUpload(gateway: Gateway, video: Video): Promise<Stage | undefined> {
  const platform = platformOf(gateway, video.platform)
  const sameUpload = (current: Video) => current.stage === 'uploading' && current.lease === video.lease
  const state = await platform.status(video.slot, callFor(gateway, video.id)).then(
    (status) => status.state,
    (error) => {
      if (error instanceof VideoMissingError) return 'awaiting-upload' as const
      throw error
    },
  )
  const arrived = state !== 'awaiting-upload'
  const changes = arrived ? { nextCheckAt: Date.now() } : { bytesReceived: 0, bytesTotal: null }
  return advance(gateway, video.id, arrived ? 'upload-completed' : 'upload-cut', changes, sameUpload)?.stage
}

/** Plans the next check of a row that is still in the stage it was claimed in. */
function reschedule(gateway: Gateway, video: Video, retryAfter: number | undefined): void {
  const now = Date.now()
  const asked = retryAfter === undefined ? 0 : Math.min(retryAfter * 1000, longestRetryAfter)
  const delay = Math.max(backoffDelay(gateway.policy.backoff, video.checks + 1), asked)
  gateway.store.plan(video.id, (current) => {
    const moved =
      current.stage !== video.stage ||
      current.stageSince !== video.stageSince ||
      current.lease !== video.lease
    if (moved || current.nextCheckAt === null) return current
    return { ...current, checks: video.checks + 1, checkedAt: now, nextCheckAt: now + delay }
  })
}

function timedOut(gateway: Gateway, video: Video): boolean {
  return Date.now() - video.stageSince >= gateway.policy.processingTimeout
}
