import { setTimeout as sleep } from 'node:timers/promises'
import type { IncomingContent } from './content.ts'
import type { Gateway } from './gateway.ts'
import { type Hold, holdLost, isHeld } from './hold.ts'
import { askStore } from './store-retry.ts'
import type { Video } from './video.ts'

/** Renews the hold of an upload repeatedly until the upload ends. */
export async function keepHeld(
  gateway: Gateway,
  hold: Hold,
  content: IncomingContent,
  over: AbortSignal,
): Promise<void> {
  const pause = () => sleep(gateway.policy.uploadLease / 3, undefined, { signal: over }).catch(() => {})
  for (await pause(); !over.aborted; await pause()) await renew(gateway, hold, content)
}

/** Stores the hold and the number of bytes for other processes; aborts an upload that lost its hold. */
async function renew(gateway: Gateway, hold: Hold, content: IncomingContent): Promise<void> {
  try {
    const renewed = (video: Video, now: number) => ({
      ...video,
      nextCheckAt: now + gateway.policy.uploadLease,
      bytesReceived: content.received(),
      updatedAt: now,
    })
    // The upload may have ended while the database was held.
    const isUploading = (video: Video) => isHeld(hold, video) && video.stage === 'uploading'
    const current = await askStore(gateway, () =>
      gateway.store.plan(hold.id, (video, now) => (isUploading(video) ? renewed(video, now) : video)),
    )
    const live = gateway.uploads.get(hold.id)?.content === content
    if (live && !isHeld(hold, current)) content.fail(holdLost(current))
  } catch (error) {
    gateway.log.warn({ video: hold.id, err: error }, 'could not renew an upload lease')
  }
}
