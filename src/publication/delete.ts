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
 * Removes a video from the platform and leaves a tombstone. Calling it again is fine. From the moment it is
 * called the video is gone for the back office; should the platform fail, the poller goes on trying.
 * @throws GatewayError when there never was such a video, or with the platform's failure
 */
export async function deleteVideo(gateway: Gateway, id: string): Promise<void> {
  let video = await gateway.store.find(id)
  if (!video || video.stage === 'provisioning') throw new GatewayError('video-not-found')
  if (video.stage === 'deleted') return
  if (video.stage !== 'deleting') {
    const living = (current: Video) => current.stage !== 'deleting' && current.stage !== 'deleted'
    const request = () => requestDeletion(gateway, id, living)
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
 * Undoes a creation, unless somebody else has taken hold of the video since.
 * @throws GatewayError with the platform's failure; then the poller goes on trying
 */
export async function undo(gateway: Gateway, started: Video): Promise<void> {
  const video = await storeResult(gateway, () =>
    requestDeletion(gateway, started.id, (row) => isHeld(started, row)),
  )
  if (video) await carryOut(gateway, video)
}

/**
 * Finishes a requested removal, also while the process is shutting down. If there is not enough time for it, the row is
 * due immediately: for another replica, or for the next process.
 */
async function carryOut(gateway: Gateway, video: Video): Promise<void> {
  try {
    await holding(gateway, video, (hold) => finishDeletion(gateway, hold), gateway.cleanupSignal)
  } catch (error) {
    const due = (row: Video, now: number) => (row.stage === 'deleting' ? { ...row, nextCheckAt: now } : row)
    // If that cannot be stored, the row is due when its claim expires.
    if (gateway.signal.aborted) await gateway.store.plan(video.id, due).catch(() => {})
    throw error
  }
}

/** From here on the video is gone for the back office, and its request may be repeated, unless it was answered. */
function requestDeletion(gateway: Gateway, id: string, guard: (current: Video) => boolean) {
  const claim = (now: number) => ({ nextCheckAt: now + gateway.policy.claim })
  return begin(gateway, id, 'deletion-requested', claim, guard, { freesKey: true })
}

/** Carries out a requested removal, by DELETE or by the poller. Several may do it side by side. */
export async function finishDeletion(gateway: Gateway, hold: Hold): Promise<void> {
  const video = await gateway.store.find(hold.id)
  if (video?.stage !== 'deleting') return
  await deleteFromPlatform(gateway, video, hold)
  const deleting = (current: Video) => current.stage === 'deleting'
  await storeResult(gateway, () => begin(gateway, hold.id, 'deletion-completed', {}, deleting))
}

/** Takes off the platform what the video's slot holds; that it is gone already is fine. */
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

/** A platform that had nothing to delete must not know the video either. @throws GatewayError when it does */
async function confirmMissing(platform: VideoPlatform, slot: Slot, call: Call): Promise<void> {
  const status = await platform.status(slot, call).catch(ignoreMissing)
  // A slot without a video in it, such as an upload session that is gone, awaits an upload.
  if (status && status.state !== 'awaiting-upload')
    throw new GatewayError(
      'platform-protocol-error',
      `${platform.name} reports a video missing that it still has`,
    )
}
