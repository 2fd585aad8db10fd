import { setTimeout as sleep } from 'node:timers/promises'
import { ignoreMissing, type Slot, type VideoPlatform } from '../platform/platform.ts'
import type { Gateway } from './gateway.ts'
import { isHeld } from './hold.ts'
import type { Leftover } from './store.ts'
import { isDeleted, type Video } from './video.ts'

/** Pause when no search is due, and after a database failure. Milliseconds. */
const pauseMs = 1_000
/** Default pauses, for adapters without their own. Milliseconds. */
const busyPauseMs = 60_000
/** Time after which a failing search is given up and counted. Milliseconds. */
const patienceMs = 24 * 3_600_000

export interface LeftoverSearch {
  stop(): Promise<void>
}

/**
 * Searches for slots that may have been left on platforms. The gateway stores an expectation before it creates a slot,
 * and deletes it once the slot is stored in the row. If the response was late, lost or came after the hold had ended,
 * the expectation remains: the gateway then searches by its id, at the adapter's intervals, and deletes what it finds.
 * One search at a time, because no client waits for it.
 */
export function startLeftoverSearch(gateway: Gateway): LeftoverSearch {
  const stopped = new AbortController()
  const signal = AbortSignal.any([stopped.signal, gateway.signal])
  const running = run()

  async function run(): Promise<void> {
    while (!signal.aborted) {
      const due = await claimNext(gateway)
      if (due) await search(gateway, due, signal)
      else await sleep(pauseMs, undefined, { signal, ref: false }).catch(() => {})
    }
  }

  return {
    async stop() {
      stopped.abort()
      await running
    },
  }
}

async function claimNext(gateway: Gateway): Promise<Leftover | undefined> {
  try {
    return await gateway.store.claimLeftover(gateway.policy.claim)
  } catch (error) {
    gateway.log.error({ err: error }, 'search for leftovers cannot access the database')
    return undefined
  }
}

/** Performs one search for one expectation, and schedules the next. Never throws. */
async function search(gateway: Gateway, leftover: Leftover, signal: AbortSignal): Promise<void> {
  const { store, log, observer } = gateway
  const { videoId, epoch, looks, createdAt } = leftover
  try {
    const video = await store.find(videoId)
    if (!video) return await store.settleLeftover(videoId, epoch)
    const platform = gateway.platforms.get(video.platform)
    // Current work on the video may create a slot right now, and an unresolved upload may have created one.
    if (!platform || isBusy(video))
      return await store.planLeftover(videoId, epoch, looks, platform?.settles[0] ?? busyPauseMs)
    try {
      await removeUnnamed(gateway, platform, video, signal)
      const pause = platform.settles[looks]
      if (pause === undefined) await store.settleLeftover(videoId, epoch)
      else await store.planLeftover(videoId, epoch, looks + 1, pause)
    } catch (error) {
      if (signal.aborted) return await store.planLeftover(videoId, epoch, looks, 0)
      log.warn({ video: videoId, platform: video.platform, err: error }, 'could not search for leftovers')
      if (store.now() - createdAt < patienceMs)
        return await store.planLeftover(videoId, epoch, looks, platform.settles[looks] ?? busyPauseMs)
      log.error(
        { video: videoId, platform: video.platform, title: video.title },
        'an empty slot may remain on the platform',
      )
      observer.orphaned(video.platform)
      await store.settleLeftover(videoId, epoch)
    }
  } catch (error) {
    // The claim expires, so the search will be repeated.
    log.error({ video: videoId, err: error }, 'could not store the search for leftovers')
  }
}

/** Deletes every slot on the platform that has the video's id and is not the slot in its row. */
export async function removeUnnamed(
  { store, log, observer }: Gateway,
  platform: VideoPlatform,
  video: Video,
  signal: AbortSignal,
): Promise<void> {
  const call = { signal, async keep() {}, async creating() {} }
  const found = (await platform.find?.(video, call)) ?? []
  const current = await store.find(video.id)
  // Work that has taken hold of the video since may have created the slot.
  if (!isHeld(video, current)) throw new Error('the video is being worked on')
  for (const slot of found.filter((slot) => !names(platform, current, slot))) {
    await platform.remove(slot, call).catch(ignoreMissing)
    log.warn({ video: video.id, platform: platform.name, platformVideo: slot.videoId }, 'leftover removed')
    observer.leftoverRemoved(platform.name)
  }
}

/** Whether the row's own slot is this one. A deleted video has none. */
export function names(platform: VideoPlatform, video: Video, slot: Slot): boolean {
  if (isDeleted(video)) return false
  return platform.isSame?.(video.slot, slot) ?? (slot.videoId !== null && slot.videoId === video.slot.videoId)
}

function isBusy({ stage, slot }: Video): boolean {
  return (
    stage === 'provisioning' ||
    stage === 'uploading' ||
    stage === 'deleting' ||
    (stage === 'processing' && slot.videoId === null)
  )
}
