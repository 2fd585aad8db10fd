import { GatewayError } from '../errors.ts'
import { ignoreMissing, isRefusal, type Slot, type VideoPlatform } from '../platform/platform.ts'
import { advance } from './advance.ts'
import { callFor } from './call.ts'
import { type Gateway, platformOf } from './gateway.ts'
import { type Hold, holding } from './hold.ts'
import { names } from './leftovers.ts'
import type { IdempotencyClaim } from './store.ts'
import { askStore, storeResult } from './store-retry.ts'
import { isDeleted, newVideo, type Video, type VideoInput } from './video.ts'

/** Thrown when another request already holds the idempotency key. */
export class KeyInUseError extends Error {}

/**
 * Provisions a slot on the platform. The row and the expectation of a new slot are stored together, before the call to
 * the platform, so that a crash in between can be cleaned up.
 * @param undoIn time after which an unfinished creation is undone, in ms: see {@link Video.undoAt}
 * @throws GatewayError with the platform's failure; then there is no video
 */
export async function provision(
  gateway: Gateway,
  input: VideoInput,
  { claim, undoIn }: { claim?: IdempotencyClaim | undefined; undoIn?: number } = {},
): Promise<Video> {
  const platform = choosePlatform(gateway, input)
  const made = newVideo(input, platform.name, gateway.policy.claim, gateway.store.now())
  const video = { ...made, undoAt: undoIn === undefined ? null : made.createdAt + undoIn }
  // A retry adds the same row: the first call may have had its effect although its response was lost.
  const insert = () => gateway.store.insert(video, claim, gateway.policy.claim)
  if ((await askStore(gateway, insert)).holder) throw new KeyInUseError()
  return holding(gateway, video, async (hold) => {
    try {
      return await createSlot(gateway, platform, video, hold)
    } catch (error) {
      await discardVideo(gateway, video, error)
      throw error
    }
  })
}

async function createSlot(
  gateway: Gateway,
  platform: VideoPlatform,
  video: Video,
  hold: Hold,
): Promise<Video> {
  const slot = await platform.provision(video, callFor(gateway, hold))
  const provisioned = await storeSlot(gateway, platform, video, hold, slot)
  // Other work considered this creation dead: the slot belongs to the video only if that work has adopted it.
  const current = provisioned ?? (await gateway.store.find(video.id))
  const adopted = current && !isDeleted(current) && names(platform, current, slot)
  if (!current || !(provisioned || adopted)) throw new GatewayError('platform-timeout')
  return current
}

/** Stores the new slot in the row. If that fails, deletes the slot while no other work can have adopted it. */
async function storeSlot(
  gateway: Gateway,
  platform: VideoPlatform,
  video: Video,
  hold: Hold,
  slot: Slot,
): Promise<Video | undefined> {
  const changes = (now: number) => ({
    slot,
    account: platform.account,
    // If this process ends before the content arrives, the poller undoes the creation.
    nextCheckAt: video.undoAt === null ? null : now + gateway.policy.claim,
  })
  const along = { leftover: { epoch: hold.epoch, searchIn: null } }
  try {
    return await storeResult(gateway, () => advance(gateway, video, 'provisioned', changes, along))
  } catch (error) {
    const call = { signal: hold.signal, async keep() {}, async creating() {} }
    await platform.remove(slot, call).catch((failure) => {
      gateway.log.warn(
        { video: video.id, err: failure },
        'could not store the slot; it will be deleted later',
      )
    })
    throw error
  }
}

/** @throws GatewayError when the requested platform is not configured */
export function choosePlatform(gateway: Gateway, input: VideoInput): VideoPlatform {
  const platform = gateway.platforms.get(input.platform ?? gateway.defaultPlatform)
  if (platform) return platform
  const message = `must be one of ${[...gateway.platforms.keys()].join(', ')}`
  throw new GatewayError('invalid-request', undefined, { errors: [{ path: '/platform', message }] })
}

/** Discards a video whose creation failed. Unless the platform certainly created no slot, searches for one. */
async function discardVideo(gateway: Gateway, video: Video, error: unknown): Promise<void> {
  const searchIn = isRefusal(error) ? null : gateway.policy.backoff.initial
  const along = { leftover: { epoch: video.epoch, searchIn }, freesKey: true }
  try {
    await storeResult(gateway, () => advance(gateway, video, 'provisioning-rejected', {}, along))
  } catch (failure) {
    gateway.log.warn(
      { video: video.id, err: failure },
      'could not clean up a failed creation; the poller will retry',
    )
  }
}

/**
 * Resolves an interrupted provisioning, whose process died. If the platform has a slot, the row adopts it; a slot that
 * appears later is a leftover.
 */
export async function recoverProvisioning(gateway: Gateway, video: Video, hold: Hold): Promise<void> {
  const platform = platformOf(gateway, video)
  const call = callFor(gateway, hold)
  const found = await platform.find?.(video, call).catch(ignoreMissing)
  const slot = found?.[0]
  const changes = slot && { slot, account: platform.account, nextCheckAt: video.undoAt }
  const name = slot ? 'provisioned' : 'provisioning-rejected'
  await storeResult(gateway, () => advance(gateway, hold, name, changes, { freesKey: !slot }))
}
