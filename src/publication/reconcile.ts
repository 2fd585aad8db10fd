import { VideoMissingError } from '../platform/platform.ts'
import { advance, begin } from './advance.ts'
import { callFor } from './call.ts'
import { type Gateway, platformOf } from './gateway.ts'
import { type Hold, holding } from './hold.ts'
import { askStore, storeResult } from './store-retry.ts'
import type { Video } from './video.ts'

/**
 * Resolves an upload whose outcome is unknown: asks the platform whether it has the content.
 * @param bytes the number of bytes sent, if this process sent them all
 * @returns the row if the content has arrived
 */
export async function reconcileUpload(
  gateway: Gateway,
  video: Video,
  hold: Hold,
  bytes?: number,
): Promise<Video | undefined> {
  const size = bytes ?? video.bytesTotal ?? video.bytesReceived
  if (!(await hasContent(gateway, video, hold))) {
    const changes = { bytesReceived: 0, bytesTotal: null, mayArrive: size, nextCheckAt: video.undoAt }
    await storeResult(gateway, () => advance(gateway, hold, 'upload-interrupted', changes))
    return undefined
  }
  const undoAt = bytes === undefined ? video.undoAt : null
  const changes = { bytesReceived: size, bytesTotal: size, mayArrive: null, undoAt }
  return storeResult(gateway, () =>
    advance(gateway, hold, 'upload-completed', (now) => ({ ...changes, nextCheckAt: now })),
  )
}

/** Checks, before another upload starts, whether the previous one has arrived after all. */
export async function lookForLateContent(gateway: Gateway, id: string): Promise<void> {
  const claim = (now: number) => ({ nextCheckAt: now + gateway.policy.claim })
  const waiting = ({ stage, mayArrive }: Video) => stage === 'awaiting-upload' && mayArrive !== null
  const take = () => begin(gateway, id, 'upload-started', claim, waiting)
  const video = await askStore(gateway, take)
  if (!video) return
  const earlier = { ...video, bytesTotal: video.mayArrive }
  try {
    await holding(gateway, video, (hold) => reconcileUpload(gateway, earlier, hold))
  } catch (error) {
    const changes = { nextCheckAt: video.undoAt }
    await storeResult(gateway, () => advance(gateway, video, 'upload-interrupted', changes))
    throw error
  }
}

async function hasContent(gateway: Gateway, video: Video, hold: Hold): Promise<boolean> {
  try {
    const { state } = await platformOf(gateway, video).status(video.slot, callFor(gateway, hold))
    return state !== 'awaiting-upload'
  } catch (error) {
    if (error instanceof VideoMissingError) return false
    throw error
  }
}
