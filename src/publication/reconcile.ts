import { VideoMissingError } from '../platform/platform.ts'
import { advance } from './advance.ts'
import { callFor } from './call.ts'
import { type Gateway, platformOf } from './gateway.ts'
import type { Hold } from './hold.ts'
import { storeResult } from './store-retry.ts'
import type { Video } from './video.ts'

/**
 * Settles an upload whose end is not known: asks the platform whether it has the content.
 * @param bytes the number of bytes sent, if this process sent them all
 * @returns the row if the content has arrived
 */
export async function reconcileUpload(
  gateway: Gateway,
  video: Video,
  hold: Hold,
  bytes?: number,
): Promise<Video | undefined> {
  if (!(await hasContent(gateway, video, hold))) {
    const changes = { bytesReceived: 0, bytesTotal: null, nextCheckAt: video.undoAt }
    await storeResult(gateway, () => advance(gateway, hold, 'upload-cut', changes))
    return undefined
  }
  const size = bytes ?? video.bytesTotal ?? video.bytesReceived
  const undoAt = bytes === undefined ? video.undoAt : null
  return storeResult(gateway, () => {
    const nextCheckAt = Date.now()
    const changes = { bytesReceived: size, bytesTotal: size, undoAt, nextCheckAt }
    return advance(gateway, hold, 'upload-completed', changes)
  })
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
