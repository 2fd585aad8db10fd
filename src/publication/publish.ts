import { createHash } from 'node:crypto'
import { GatewayError } from '../errors.ts'
import type { IdempotencyRecord } from '../store/store.ts'
import { check } from './check.ts'
import type { Gateway } from './gateway.ts'
import { type IdempotencyClaim, KeyTaken, provision } from './provision.ts'
import { remove } from './remove.ts'
import { type Incoming, open, transfer } from './upload.ts'
import type { Publication, Video } from './video.ts'

/** Which caller marked the request with which `Idempotency-Key`. */
export interface IdempotencyKey {
  client: string
  key: string
}

export interface Published {
  video: Video
  /** The answer of an earlier request with the same key. */
  replayed: boolean
}

/**
 * Creates a video, with its content when `incoming` is given: then it is all or nothing, a failed upload takes
 * the slot away again. With a key, the first answer is given again and nothing is provisioned twice (IETF
 * draft-ietf-httpapi-idempotency-key-header); a request that failed, or whose process died, may be repeated.
 */
export async function publish(
  gateway: Gateway,
  asked: Publication,
  { key, incoming }: { key?: IdempotencyKey | undefined; incoming?: Incoming | undefined } = {},
): Promise<Published> {
  const claim = key && { ...key, fingerprint: fingerprintOf(asked, incoming) }
  const earlier = claim && (await earlierVideo(gateway, claim))
  if (earlier?.replayed) return earlier

  let video = earlier?.video
  if (incoming && (!video || video.stage === 'awaiting-upload')) {
    const content = await open(
      gateway,
      video?.platform ?? asked.platform ?? gateway.defaultPlatform,
      incoming,
    )
    try {
      video ??= await claimAndProvision(gateway, asked, claim)
      await transfer(gateway, video, content)
    } catch (error) {
      content.stream.destroy()
      if (video) await takeBack(gateway, video, claim)
      throw error
    }
    video = gateway.store.find(video.id) as Video
  }
  video ??= await claimAndProvision(gateway, asked, claim)
  if (claim) gateway.store.answerKey(claim.client, claim.key, JSON.stringify(video))
  return { video, replayed: false }
}

async function claimAndProvision(gateway: Gateway, asked: Publication, claim: IdempotencyClaim | undefined) {
  try {
    return await provision(gateway, asked, claim)
  } catch (error) {
    // Another request took the key since we looked.
    if (error instanceof KeyTaken)
      throw new GatewayError('idempotency-key-in-progress', undefined, { retryAfter: 1 })
    throw error
  }
}

/** What an earlier request with the key led to: an answer to repeat, a video to go on with, or nothing. */
async function earlierVideo(gateway: Gateway, claim: IdempotencyClaim): Promise<Published | undefined> {
  const record = gateway.store.findKey(claim.client, claim.key)
  if (!record) return undefined
  if (record.fingerprint !== claim.fingerprint) throw new GatewayError('idempotency-key-reused')
  if (record.response !== null) return { video: JSON.parse(record.response) as Video, replayed: true }
  return abandonedVideo(gateway, record)
}

/** The first request has not answered: it is under way, or its process died. */
async function abandonedVideo(gateway: Gateway, record: IdempotencyRecord): Promise<Published | undefined> {
  let video = gateway.store.find(record.videoId)
  const unsettled = video?.stage === 'provisioning' || video?.stage === 'uploading'
  if (video && unsettled) {
    const retryAfter = Math.ceil(((video.nextCheckAt ?? 0) - Date.now()) / 1000)
    if (retryAfter > 0) throw new GatewayError('idempotency-key-in-progress', undefined, { retryAfter })
    await check(gateway, video)
    video = gateway.store.find(record.videoId)
  }
  if (video?.stage === 'provisioning' || video?.stage === 'uploading') {
    throw new GatewayError('idempotency-key-in-progress', 'what the first request led to is not known yet', {
      retryAfter: 5,
    })
  }
  if (!video || video.stage === 'deleting' || video.stage === 'deleted') {
    gateway.store.releaseKey(record.client, record.key)
    return undefined
  }
  return { video, replayed: false }
}

/** Undoes a creation whose upload failed. What the platform does not give up now, the poller removes later. */
async function takeBack(gateway: Gateway, video: Video, claim: IdempotencyClaim | undefined): Promise<void> {
  try {
    await remove(gateway, video.id)
  } catch (error) {
    gateway.log.warn({ video: video.id, err: error }, 'the slot of a failed upload will be removed later')
  }
  if (claim) gateway.store.releaseKey(claim.client, claim.key)
}

function fingerprintOf(
  { title, description, reference, platform }: Publication,
  incoming: Incoming | undefined,
): string {
  const parts = [
    title,
    description,
    reference,
    platform,
    incoming ? (incoming.size ?? 'unknown') : 'no content',
  ]
  return createHash('sha256')
    .update(JSON.stringify(parts.map((part) => part ?? null)))
    .digest('base64url')
}
