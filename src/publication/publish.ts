import { createHash } from 'node:crypto'
import { finished } from 'node:stream/promises'
import { GatewayError } from '../errors.ts'
import { check } from './check.ts'
import type { IncomingContent } from './content.ts'
import type { Gateway } from './gateway.ts'
import { takeExpired } from './hold.ts'
import { keyLifetimeMs } from './housekeeping.ts'
import { choosePlatform, type IdempotencyClaim, KeyTaken, provision } from './provision.ts'
import { undo } from './remove.ts'
import type { IdempotencyRecord } from './store.ts'
import { storeResult } from './store-retry.ts'
import { type Incoming, open, type StartedUpload, startUpload, transfer } from './upload.ts'
import { firstEpoch, isDeleted, type Publication, type Video } from './video.ts'

/** Between two tries of a repetition whose first request is under way. Milliseconds. */
const longestWait = 10_000
/** Which caller marked the request with which `Idempotency-Key`. */
export interface IdempotencyKey {
  /** The principal's key, see `auth/credentials.ts`. */
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
  const claim = key && { ...key, fingerprint: fingerprintOf(asked, incoming !== undefined) }
  const record = claim && (await gateway.store.findKey(claim.client, claim.key))
  if (record && record.fingerprint.split(':')[0] !== claim.fingerprint)
    throw new GatewayError('idempotency-key-reused')
  if (record?.response) return replay(gateway, record, record.response, incoming)

  const abandoned = record && (await abandonedVideo(gateway, record))
  const { video, digest } = incoming
    ? await createWithContent(gateway, asked, incoming, claim, abandoned)
    : { video: abandoned ?? (await claimAndProvision(gateway, asked, { claim })) }
  if (abandoned) {
    const keep = (row: Video) => (row.undoAt === null ? row : { ...row, undoAt: null })
    await storeResult(gateway, () => gateway.store.update(video.id, keep))
  }
  if (claim) {
    const fingerprint = digest ? `${claim.fingerprint}:${digest}` : claim.fingerprint
    await storeResult(gateway, () => gateway.store.answerKey(video.id, fingerprint, JSON.stringify(video)))
  }
  return { video, replayed: false }
}

/** The first answer once more. Content is read to its end to see whether it is the same, and goes nowhere. */
async function replay(
  gateway: Gateway,
  { fingerprint }: IdempotencyRecord,
  response: string,
  incoming: Incoming | undefined,
): Promise<Published> {
  const video = JSON.parse(response) as Video
  if (incoming) {
    const content = await open(gateway, video.platform, incoming, true)
    if (fingerprint.split(':')[1] !== (await digestOf(content)))
      throw new GatewayError('idempotency-key-reused')
  }
  return { video, replayed: true }
}

/**
 * All or nothing: until the caller can be told of it, the row says that it is to be undone.
 * @param abandoned what an earlier request with the key left behind when its process died
 */
async function createWithContent(
  gateway: Gateway,
  asked: Publication,
  incoming: Incoming,
  claim: IdempotencyClaim | undefined,
  abandoned: Video | undefined,
): Promise<{ video: Video; digest: string | undefined }> {
  const platform = abandoned?.platform ?? choosePlatform(gateway, asked).name
  const content = await open(gateway, platform, incoming, claim !== undefined)
  if (abandoned && abandoned.stage !== 'awaiting-upload')
    return { video: abandoned, digest: await digestOf(content) }
  const started = await claimAndStart(gateway, asked, claim, abandoned, content)
  try {
    return { video: await transfer(gateway, started), digest: content.digest() }
  } catch (error) {
    await takeBack(gateway, started.video)
    throw error
  }
}

/** @throws GatewayError when there is no slot, or somebody else uploads into it; the content's stream is ended then */
async function claimAndStart(
  gateway: Gateway,
  asked: Publication,
  claim: IdempotencyClaim | undefined,
  abandoned: Video | undefined,
  content: IncomingContent,
): Promise<StartedUpload> {
  try {
    // A request with a key may be repeated for as long as the key lives.
    const undoAt = Date.now() + (claim ? keyLifetimeMs : 0)
    const video = abandoned ?? (await claimAndProvision(gateway, asked, { claim, undoAt }))
    return await startUpload(gateway, video.id, content)
  } catch (error) {
    content.stream.destroy()
    throw error
  }
}

/** Reads content that goes nowhere to its end. @throws GatewayError as an upload of it would */
async function digestOf(content: IncomingContent): Promise<string | undefined> {
  await finished(content.stream.resume())
  return content.digest()
}

async function claimAndProvision(...[gateway, asked, options]: Parameters<typeof provision>) {
  try {
    return await provision(gateway, asked, options)
  } catch (error) {
    // Another request took the key since we looked.
    if (error instanceof KeyTaken)
      throw new GatewayError('idempotency-key-in-progress', undefined, { retryAfter: 1 })
    throw error
  }
}

/**
 * What a request led to that has not answered: it is under way, or its process died.
 * @returns its video, or undefined when there is none any more: then the key is free again
 */
async function abandonedVideo(gateway: Gateway, record: IdempotencyRecord): Promise<Video | undefined> {
  let video = await gateway.store.find(record.videoId)
  if (video && mayBeUnderWay(video)) {
    const taken = await takeExpired(gateway, video.id)
    if (!taken) {
      const retryAfter = Math.max(1, secondsToWait(gateway, record, video))
      throw new GatewayError('idempotency-key-in-progress', undefined, { retryAfter })
    }
    await check(gateway, taken)
    video = await gateway.store.find(record.videoId)
  }
  if (video?.stage === 'provisioning' || video?.stage === 'uploading') {
    throw new GatewayError('idempotency-key-in-progress', 'what the first request led to is not known yet', {
      retryAfter: 5,
    })
  }
  if (!video || isDeleted(video)) {
    await storeResult(gateway, () => gateway.store.releaseKey(record.videoId))
    return undefined
  }
  return video
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
  const now = Date.now()
  // A claim that ends later was made before the clock was set back.
  const left = Math.min((nextCheckAt ?? 0) - now, gateway.policy.claim)
  if (left <= 0) return 0
  const elapsed = Math.min(Math.max(now - createdAt, 0), longestWait)
  return Math.max(1, Math.ceil(Math.min(elapsed, left) / 1000))
}

/** Undoes a creation whose upload failed. What the platform does not give up now, the poller removes later. */
async function takeBack(gateway: Gateway, started: Video): Promise<void> {
  try {
    await undo(gateway, started)
  } catch (error) {
    gateway.log.warn({ video: started.id, err: error }, 'the slot of a failed upload will be removed later')
  }
}

/** Tells requests apart by what is known at their start; the digest of the content follows it, after a colon. */
function fingerprintOf(
  { title, description, reference, platform }: Publication,
  withContent: boolean,
): string {
  const parts = [title, description, reference, platform].map((part) => part ?? null)
  return createHash('sha256')
    .update(JSON.stringify([...parts, withContent]))
    .digest('base64url')
}
