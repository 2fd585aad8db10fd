import { GatewayError } from '../errors.ts'
import { VideoMissingError } from '../platform/platform.ts'
import { endAttempts } from './attempt.ts'
import { advance, callFor, type Gateway, platformOf } from './gateway.ts'
import { askStore, storeResult } from './store-retry.ts'
import type { Video } from './video.ts'

/**
 * Removes a video from the platform and leaves a tombstone. Calling it again is fine. From the moment it is
 * called the video is gone for the back office; should the platform fail, the poller goes on trying.
 * @throws GatewayError when there never was such a video, or with the platform's failure
 */
export async function remove(gateway: Gateway, id: string): Promise<void> {
  const video = gateway.store.find(id)
  if (!video || video.stage === 'provisioning') throw new GatewayError('video-not-found')
  if (video.stage === 'deleted') return
  if (video.stage !== 'deleting') {
    const nextCheckAt = Date.now() + gateway.policy.claim
    await askStore(gateway, () =>
      advance(gateway, id, 'removal-requested', { nextCheckAt }, (current) => current.stage !== 'deleting'),
    )
    endAttempts(gateway, id)
  }
  const upload = gateway.uploads.get(id)
  if (upload) {
    upload.content.fail(new GatewayError('video-deleted'))
    await upload.done
  }
  await finishRemoval(gateway, id)
}

/** Carries out a requested removal, by DELETE or by the poller. */
export async function finishRemoval(
  gateway: Gateway,
  id: string,
  signal: AbortSignal = gateway.signal,
): Promise<void> {
  const video = gateway.store.find(id)
  if (video?.stage !== 'deleting') return
  await removeFromPlatform(gateway, video, signal)
  await storeResult(gateway, () =>
    advance(gateway, id, 'removed', {}, (current) => current.stage === 'deleting'),
  )
}

/** Takes whatever the video's slot holds off the platform; that it is gone already is fine. */
export async function removeFromPlatform(
  gateway: Gateway,
  video: Video,
  signal: AbortSignal = gateway.signal,
): Promise<void> {
  const platform = platformOf(gateway, video.platform)
  const call = callFor(gateway, video.id, signal)
  try {
    const slot = hasSlot(video) ? video.slot : await platform.find?.(video, call)
    if (slot) await platform.remove(slot, call)
    if (slot === undefined) {
      gateway.log.error(
        { video: video.id, platform: video.platform, title: video.title },
        'an empty slot may be left',
      )
      gateway.observer.orphaned(video.platform)
    }
  } catch (error) {
    if (!(error instanceof VideoMissingError)) throw error
  }
}

function hasSlot({ slot }: Video): boolean {
  return slot.videoId !== null || slot.handle !== null
}
