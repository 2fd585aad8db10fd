import { createHash } from 'node:crypto'
import { finished } from 'node:stream/promises'
import { GatewayError, type ProblemCode } from '../errors.ts'
import { abandonedVideo, keyInProgress } from './abandoned.ts'
import type { IncomingContent } from './content.ts'
import { undo } from './delete.ts'
import type { Gateway } from './gateway.ts'
import { keyLifetimeMs } from './housekeeping.ts'
import { choosePlatform, KeyInUseError, provision } from './provision.ts'
import type { IdempotencyClaim, IdempotencyRecord } from './store.ts'
import { storeResult } from './store-retry.ts'
import { type Incoming, open, type StartedUpload, startUpload, transfer } from './upload.ts'
import type { Video, VideoInput } from './video.ts'

/** Errors of an upload to a video that is no longer free. */
const takenCodes: ProblemCode[] = ['video-deleted', 'upload-in-progress', 'content-already-uploaded']

/** The `Idempotency-Key` of a request, and its client. */
export interface IdempotencyKey {
  /** The principal's key, see `auth/credentials.ts`. */
  client: string
  key: string
}

export interface PublishResult {
  video: Video
  /** Whether this is the result of an earlier request with the same key. */
  replayed: boolean
}

/**
 * Creates a video, with its content if `incoming` is given: then a failed upload deletes the slot again. With a key, a
 * repeated request gets the first response and nothing is provisioned twice (IETF
 * draft-ietf-httpapi-idempotency-key-header); a request that failed, or whose process died, may be repeated.
 */
export async function publish(
  gateway: Gateway,
  input: VideoInput,
  { key, incoming }: { key?: IdempotencyKey | undefined; incoming?: Incoming | undefined } = {},
): Promise<PublishResult> {
  const claim = key && { ...key, fingerprint: fingerprintOf(input, incoming !== undefined) }
  const record = claim && (await gateway.store.findKey(claim.client, claim.key))
  if (record && record.fingerprint.split(':')[0] !== claim.fingerprint)
    throw new GatewayError('idempotency-key-reused')
  if (record?.response) return replay(gateway, record, record.response, incoming)

  const abandoned = record && (await abandonedVideo(gateway, record))
  const { video, digest } = incoming
    ? await createWithContent(gateway, input, incoming, claim, abandoned)
    : { video: abandoned ?? (await claimAndProvision(gateway, input, { claim })) }
  if (abandoned) {
    const keep = (row: Video) => (row.undoAt === null ? row : { ...row, undoAt: null })
    await storeResult(gateway, () => gateway.store.update(video.id, keep))
  }
  if (claim) {
    const fingerprint = digest ? `${claim.fingerprint}:${digest}` : claim.fingerprint
    await storeResult(gateway, () => gateway.store.saveResponse(video.id, fingerprint, JSON.stringify(video)))
  }
  return { video, replayed: false }
}

/** Returns the first response. Content is read to its end only to verify that it is the same. */
async function replay(
  gateway: Gateway,
  { fingerprint }: IdempotencyRecord,
  response: string,
  incoming: Incoming | undefined,
): Promise<PublishResult> {
  const video = JSON.parse(response) as Video
  if (incoming) {
    const content = await open(gateway, video.platform, incoming, true)
    if (fingerprint.split(':')[1] !== (await digestOf(content)))
      throw new GatewayError('idempotency-key-reused')
  }
  return { video, replayed: true }
}

/**
 * Creates a video with its content, or nothing: until the response can be sent, the row is marked to be undone.
 * @param abandoned video of an earlier request with the key whose process died
 */
async function createWithContent(
  gateway: Gateway,
  input: VideoInput,
  incoming: Incoming,
  claim: IdempotencyClaim | undefined,
  abandoned: Video | undefined,
): Promise<{ video: Video; digest: string | undefined }> {
  const platform = abandoned?.platform ?? choosePlatform(gateway, input).name
  const content = await open(gateway, platform, incoming, claim !== undefined)
  if (abandoned && abandoned.stage !== 'awaiting-upload')
    return { video: abandoned, digest: await digestOf(content) }
  const started = await claimAndStart(gateway, input, claim, abandoned, content)
  try {
    return { video: await transfer(gateway, started), digest: content.digest() }
  } catch (error) {
    await rollBack(gateway, started.video)
    throw error
  }
}

/** @throws GatewayError when there is no slot, or another upload uses it; the content's stream is then destroyed */
async function claimAndStart(
  gateway: Gateway,
  input: VideoInput,
  claim: IdempotencyClaim | undefined,
  abandoned: Video | undefined,
  content: IncomingContent,
): Promise<StartedUpload> {
  try {
    // A request with a key may be repeated during the lifetime of the key.
    const undoIn = claim ? keyLifetimeMs : 0
    const video = abandoned ?? (await claimAndProvision(gateway, input, { claim, undoIn }))
    return await startUpload(gateway, video, content)
  } catch (error) {
    content.stream.destroy()
    // Another repetition was faster, or the first request has undone the creation in the meantime.
    const isTaken = abandoned && error instanceof GatewayError && takenCodes.includes(error.code)
    throw isTaken ? keyInProgress(1) : error
  }
}

/** Reads content to its end and discards it. @throws GatewayError like an upload of it */
async function digestOf(content: IncomingContent): Promise<string | undefined> {
  await finished(content.stream.resume())
  return content.digest()
}

async function claimAndProvision(...[gateway, input, options]: Parameters<typeof provision>) {
  try {
    return await provision(gateway, input, options)
  } catch (error) {
    // Another request has used the key since the check.
    throw error instanceof KeyInUseError ? keyInProgress(1) : error
  }
}

/** Undoes a creation whose upload failed. If the platform fails now, the poller deletes the slot later. */
async function rollBack(gateway: Gateway, started: Video): Promise<void> {
  try {
    await undo(gateway, started)
  } catch (error) {
    gateway.log.warn(
      { video: started.id, err: error },
      'could not delete the slot of a failed upload; the poller will retry',
    )
  }
}

/** Returns the fingerprint of a request by its fields; the digest of the content is appended later, after a colon. */
function fingerprintOf(
  { title, description, reference, platform }: VideoInput,
  withContent: boolean,
): string {
  const parts = [title, description, reference, platform].map((part) => part ?? null)
  return createHash('sha256')
    .update(JSON.stringify([...parts, withContent]))
    .digest('base64url')
}
