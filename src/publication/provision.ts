import { isDeepStrictEqual } from 'node:util'
import { GatewayError } from '../errors.ts'
import { type Slot, VideoMissingError, type VideoPlatform } from '../platform/platform.ts'
import { advance, callFor, type Gateway, platformOf } from './gateway.ts'
import { removeFromPlatform } from './remove.ts'
import type { IdempotencyRecord } from './store.ts'
import { askStore, storeResult } from './store-retry.ts'
import { newVideo, type Publication, type Video } from './video.ts'

/** The key with which a caller marks its request, see `publish.ts`. */
export type IdempotencyClaim = Pick<IdempotencyRecord, 'client' | 'key' | 'fingerprint'>

/** Thrown when another request already holds the idempotency key. */
export class KeyTaken extends Error {}

/**
 * Provisions a slot on the platform. The row is stored before the platform is asked, so that a crash in between
 * leaves something to clean up by.
 * @throws GatewayError with the platform's failure; then there is no video
 */
export async function provision(
  gateway: Gateway,
  asked: Publication,
  claim?: IdempotencyClaim,
): Promise<Video> {
  const platform = choosePlatform(gateway, asked)
  const { name } = platform
  const video = newVideo(asked, name, gateway.policy.claim)
  const record = claim && { ...claim, videoId: video.id, response: null, createdAt: video.createdAt }
  if (await askStore(gateway, () => gateway.store.insert(video, record))) throw new KeyTaken()

  let slot: Slot
  try {
    slot = await platform.provision(video, callFor(gateway, video.id))
  } catch (error) {
    await storeResult(gateway, () => withdraw(gateway, video, error))
    await storeResult(gateway, () => gateway.store.releaseKey(video.id))
    throw error
  }
  // A poller that took this for abandoned (it was slow, or the clock was set) has found the slot before us.
  const adopted = (current: Video) =>
    current.stage === 'awaiting-upload' && isDeepStrictEqual(current.slot, slot)
  try {
    const provisioned = await storeResult(gateway, () =>
      advance(gateway, video.id, 'provisioned', { slot }, (current) => !adopted(current)),
    )
    return provisioned ?? (gateway.store.find(video.id) as Video)
  } catch (error) {
    gateway.log.error(
      { video: video.id, platform: name, slot: slot.videoId, err: error },
      'slot could not be stored',
    )
    await removeFromPlatform(gateway, { ...video, slot })
    throw error
  }
}

/** @throws GatewayError when the one that is asked for is not configured */
export function choosePlatform(gateway: Gateway, asked: Publication): VideoPlatform {
  const platform = gateway.platforms.get(asked.platform ?? gateway.defaultPlatform)
  if (platform) return platform
  const message = `must be one of ${[...gateway.platforms.keys()].join(', ')}`
  throw new GatewayError('invalid-request', undefined, { errors: [{ path: '/platform', message }] })
}

/** Forgets a video that the platform refused; where it may have made a slot all the same, looks for it later. */
function withdraw(gateway: Gateway, video: Video, error: unknown): void {
  const certain = ['platform-rejected', 'platform-unauthorized', 'platform-throttled', 'length-required']
  const refused = error instanceof GatewayError && certain.includes(error.code)
  if (refused) advance(gateway, video.id, 'provision-refused')
  else
    advance(gateway, video.id, 'removal-requested', {
      nextCheckAt: Date.now() + gateway.policy.backoff.initial,
    })
}

/**
 * Finds out what became of a provisioning that was interrupted (the process died, or another one did).
 * The slot is adopted where the platform can tell; else the video fails and the log names it.
 */
export async function recoverProvisioning(
  gateway: Gateway,
  video: Video,
  signal: AbortSignal,
): Promise<void> {
  const platform = platformOf(gateway, video.platform)
  const stale = (current: Video) => current.stage === 'provisioning' && !signal.aborted
  if (!platform.find) {
    const message = 'the gateway stopped while the platform made the slot; create the video again'
    advance(
      gateway,
      video.id,
      'provision-lost',
      { error: { code: 'provisioning-interrupted', message } },
      stale,
    )
    gateway.log.error(
      { video: video.id, platform: video.platform, title: video.title },
      'an empty slot may be left',
    )
    gateway.observer.orphaned(video.platform)
    return
  }
  const slot = await platform.find(video, callFor(gateway, video.id, signal)).catch((error) => {
    if (error instanceof VideoMissingError) return null
    throw error
  })
  await storeResult(gateway, () =>
    slot
      ? advance(gateway, video.id, 'provisioned', { slot }, stale)
      : advance(gateway, video.id, 'provision-refused', {}, stale),
  )
}
