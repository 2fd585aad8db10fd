import { VideoMissingError } from '../platform/platform.ts'
import { begin } from './advance.ts'
import type { Gateway } from './gateway.ts'
import { isHeld } from './hold.ts'
import { spread, startRefresh } from './refresh.ts'
import { storeResult } from './store-retry.ts'
import type { Video } from './video.ts'

/**
 * Checks a ready video: whether the platform still has it, and under which URLs. The video fails only after several
 * checks in a row, minutes apart, that report it missing: one 404 may come from a proxy during a deployment of the
 * platform. Never throws.
 */
export async function recheck(gateway: Gateway, video: Video): Promise<void> {
  // A refresh by a reader is in progress. If it fails, this claim expires and the check is made then.
  if (gateway.refreshes.running.has(video.id)) return
  try {
    await startRefresh(gateway, video).done
  } catch (error) {
    if (gateway.signal.aborted) return
    try {
      await storeResult(gateway, () =>
        error instanceof VideoMissingError
          ? miss(gateway, video)
          : schedule(gateway, video, spread(gateway.policy.recheck.retry)),
      )
    } catch (cause) {
      // The claim expires, so the row will be checked again.
      gateway.log.error({ video: video.id, err: cause }, 'could not reschedule the check')
    }
  }
}

async function miss(gateway: Gateway, video: Video): Promise<void> {
  const { checks, delay } = gateway.policy.recheck.missing
  const missed = video.checks + 1
  if (missed < checks) {
    return schedule(gateway, video, delay * 2 ** video.checks, missed)
  }
  const error = { code: 'platform-video-missing', message: 'The platform no longer has the video.' }
  const changes = (now: number) => ({ error, info: null, thumbnail: null, checkedAt: now })
  await begin(gateway, video.id, 'vanished', changes, (current) => isUnchanged(current, video))
}

async function schedule(gateway: Gateway, video: Video, delay: number, checks = video.checks): Promise<void> {
  await gateway.store.plan(video.id, (current, now) =>
    isUnchanged(current, video) ? { ...current, checks, nextCheckAt: now + delay } : current,
  )
}

/** Whether the row is as it was when claimed: a reader may have found the video in the meantime. */
function isUnchanged(current: Video, video: Video): boolean {
  return isHeld(video, current) && current.checks === video.checks && current.fetchedAt === video.fetchedAt
}
