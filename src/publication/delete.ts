import { GatewayError } from '../errors.ts'
import {
  type Call,
  ignoreMissing,
  type Slot,
  VideoMissingError,
  type VideoPlatform,
} from '../platform/platform.ts'
import { begin } from './advance.ts'
import { callFor } from './call.ts'
import { type Gateway, platformOf } from './gateway.ts'
import { endWork, type Hold, holding, isHeld } from './hold.ts'
import { askStore, storeResult } from './store-retry.ts'
import type { Video } from './video.ts'

/**
 * Deletes a video from the platform and leaves a tombstone. It may be called again. From the call on the video is
 * deleted for clients; if the platform fails, the poller keeps trying.
 * @throws GatewayError when the video never existed, or with the platform's failure
 */
export async function deleteVideo(gateway: Gateway, id: string): Promise<void> {
  let video = await gateway.store.find(id)
  if (!video || video.stage === 'provisioning') throw new GatewayError('video-not-found')
  if (video.stage === 'deleted') return
  if (video.stage !== 'deleting') {
    const living = (current: Video) => current.stage !== 'deleting' && current.stage !== 'deleted'
    const found = video
    const request = () => requestDeletion(gateway, found, living)
    video = (await askStore(gateway, request)) ?? (await gateway.store.find(id))
    if (video) endWork(gateway, video)
  }
  const upload = gateway.uploads.get(id)
  if (upload) {
    upload.content.fail(new GatewayError('video-deleted'))
    await upload.done
  }
  if (video) await carryOut(gateway, video)
}

/**
 * Undoes a creation, unless other work has taken hold of the video since.
 * @throws GatewayError with the platform's failure; then the poller keeps trying
 */
export async function undo(gateway: Gateway, started: Video): Promise<void> {
  const video = await storeResult(gateway, () =>
    requestDeletion(gateway, started, (row) => isHeld(started, row)),
  )
  if (video) await carryOut(gateway, video)
}

/**
 * Finishes a requested deletion, even while the process is shutting down. If the time is not enough, the row is due
 * immediately, for another process.
 */
async function carryOut(gateway: Gateway, video: Video): Promise<void> {
  try {
    await holding(gateway, video, (hold) => finishDeletion(gateway, hold), gateway.cleanupSignal)
  } catch (error) {
    const due = (row: Video, now: number) => (row.stage === 'deleting' ? { ...row, nextCheckAt: now } : row)
    // If this cannot be stored, the row is due when its claim expires.
    if (gateway.signal.aborted) await gateway.store.plan(video.id, due).catch(() => {})
    throw error
  }
}

/** Stores the deletion request. The video is now deleted for clients; an unanswered creation may be repeated. */
function requestDeletion(gateway: Gateway, row: Video, guard: (current: Video) => boolean) {
  const claim = (now: number) => ({ nextCheckAt: now + gateway.policy.claim })
  return begin(gateway, row, 'deletion-requested', claim, guard, { freesKey: true })
}

/** Performs a requested deletion, for DELETE or the poller. Several processes may do so concurrently. */
export async function finishDeletion(gateway: Gateway, hold: Hold): Promise<void> {
  const video = await gateway.store.find(hold.id)
  if (video?.stage !== 'deleting') return
  await deleteFromPlatform(gateway, video, hold)
  const deleting = (current: Video) => current.stage === 'deleting'
  await storeResult(gateway, () => begin(gateway, video, 'deletion-completed', {}, deleting))
}

/** Deletes the slot's content from the platform; it may already be gone. */
export async function deleteFromPlatform(gateway: Gateway, video: Video, hold: Hold): Promise<void> {
  const { videoId, handle } = video.slot
  if (videoId === null && handle === null) return
  const platform = platformOf(gateway, video)
  const call = callFor(gateway, hold)
  try {
    await platform.remove(video.slot, call)
  } catch (error) {
    if (!(error instanceof VideoMissingError)) throw error
    await confirmMissing(platform, video.slot, call)
  }
}

/** Verifies that a platform that had nothing to delete does not have the video. @throws GatewayError when it does */
async function confirmMissing(platform: VideoPlatform, slot: Slot, call: Call): Promise<void> {
  const status = await platform.status(slot, call).catch(ignoreMissing)
  // A slot without a video, such as an upload session that is gone, awaits an upload.
  if (status && status.state !== 'awaiting-upload')
    throw new GatewayError(
      'platform-protocol-error',
      `${platform.name} reports a video missing that it still has`,
    )
}
