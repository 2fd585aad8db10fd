import { GatewayError } from '../errors.ts'
import { check } from './check.ts'
import type { Gateway } from './gateway.ts'
import { takeExpired } from './hold.ts'
import type { IdempotencyRecord } from './store.ts'
import { storeResult } from './store-retry.ts'
import { firstEpoch, isDeleted, type Video } from './video.ts'

/** Between two tries of a repetition whose first request is under way. Milliseconds. */
const longestWait = 10_000

/**
 * What a request led to that has not answered: it is under way, or its process died.
 * @returns its video, or undefined when there is none any more: then the key is free again
 */
export async function abandonedVideo(
  gateway: Gateway,
  record: IdempotencyRecord,
): Promise<Video | undefined> {
  let video = await gateway.store.find(record.videoId)
  if (video && mayBeUnderWay(video)) {
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

/** Whether somebody may hold a creation that is not answered: whether one does is for its hold to tell. */
function mayBeUnderWay({ stage, undoAt, epoch }: Video): boolean {
  // Its creator is about to upload: nobody has taken hold of it since.
  const provisioned = stage === 'awaiting-upload' && undoAt !== null && epoch === firstEpoch
  return stage === 'provisioning' || stage === 'uploading' || provisioned
}

/**
 * When a repetition is worth another try: after as long as the first request has taken so far, so soon for a quick one
 * and seldom for a long upload; at the latest when its claim ends, since then nobody works on it any more.
 * @returns 0 once the claim has ended
 */
function secondsToWait(gateway: Gateway, { createdAt }: IdempotencyRecord, { nextCheckAt }: Video): number {
  const now = gateway.store.now()
  // A claim that ends later was made before the clock was set back.
  const left = Math.min((nextCheckAt ?? 0) - now, gateway.policy.claim)
  if (left <= 0) return 0
  const elapsed = Math.min(Math.max(now - createdAt, 0), longestWait)
  return Math.max(1, Math.ceil(Math.min(elapsed, left) / 1000))
}
