import { GatewayError } from '../errors.ts'
import { check } from './check.ts'
import type { Gateway } from './gateway.ts'
import { takeExpired } from './hold.ts'
import type { IdempotencyRecord } from './store.ts'
import { storeResult } from './store-retry.ts'
import { firstEpoch, isDeleted, type Video } from './video.ts'

/** Maximum `Retry-After` for a repeated request while the first one is in progress. Milliseconds. */
const longestWait = 10_000

/**
 * Finds the video of a request without a stored response: the request is in progress, or its process died.
 * @returns the video, or undefined if it no longer exists; the key can then be used again
 */
export async function abandonedVideo(
  gateway: Gateway,
  record: IdempotencyRecord,
): Promise<Video | undefined> {
  let video = await gateway.store.find(record.videoId)
  if (video && mayBeInProgress(video)) {
    const taken = await takeExpired(gateway, video.id)
    if (!taken) throw keyInProgress(Math.max(1, secondsToWait(gateway, record, video)))
    await check(gateway, taken)
    video = await gateway.store.find(record.videoId)
  }
  if (video?.stage === 'provisioning' || video?.stage === 'uploading') {
    throw new GatewayError(
      'idempotency-key-in-progress',
      'The outcome of the first request is not known yet. Retry when Retry-After has passed.',
      {
        retryAfter: 5,
      },
    )
  }
  if (!video || isDeleted(video)) {
    await storeResult(gateway, () => gateway.store.releaseKey(record.videoId))
    return undefined
  }
  return video
}

/** @param retryAfter in seconds */
export function keyInProgress(retryAfter: number): GatewayError {
  return new GatewayError('idempotency-key-in-progress', undefined, { retryAfter })
}

/** Whether a creation without a stored response may still be in progress; its hold shows whether it is. */
function mayBeInProgress({ stage, undoAt, epoch }: Video): boolean {
  // Its creator is about to upload: no other work has taken hold of the row since.
  const provisioned = stage === 'awaiting-upload' && undoAt !== null && epoch === firstEpoch
  return stage === 'provisioning' || stage === 'uploading' || provisioned
}

/**
 * Returns the delay before the next repetition, in seconds: as long as the first request has taken so far, so short
 * after a quick one and long during a long upload, but at most until the claim expires, because the work has then
 * stopped.
 * @returns 0 once the claim has expired
 */
function secondsToWait(gateway: Gateway, { createdAt }: IdempotencyRecord, { nextCheckAt }: Video): number {
  const now = gateway.store.now()
  // A claim that expires later was made before the clock was set back.
  const left = Math.min((nextCheckAt ?? 0) - now, gateway.policy.claim)
  if (left <= 0) return 0
  const elapsed = Math.min(Math.max(now - createdAt, 0), longestWait)
  return Math.max(1, Math.ceil(Math.min(elapsed, left) / 1000))
}
