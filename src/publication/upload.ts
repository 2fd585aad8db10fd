import { randomUUID } from 'node:crypto'
import type { Readable } from 'node:stream'
import { GatewayError } from '../errors.ts'
import { reconcileUpload } from './check.ts'
import { type IncomingContent, openContent } from './content.ts'
import { advance, callFor, type Gateway, platformOf, visibleVideo } from './gateway.ts'
import { transition } from './lifecycle.ts'
import { removeFromPlatform } from './remove.ts'
import { askStore, storeResult } from './store-retry.ts'
import { isDeleted, type Video } from './video.ts'

/** The bytes as they come in. */
export interface Incoming {
  source: Readable
  /** Length in bytes that the caller announced; null when it did not. */
  size: number | null
  /**
   * What the length is when nobody announced it, by what the bytes around the content tell; null when they do not. It
   * may turn out to be wrong, so it is used only where the platform cannot do without a length.
   */
  estimateSize?: () => Promise<number | null>
}

/** What a caller can do whose form does not tell the length of its file. */
const announceSize =
  'Send the length of the file in bytes in a field `size` before the part `file`, or send the file alone with PUT and Content-Length.'

/** An upload that holds its video's lease. */
export interface StartedUpload {
  video: Video
  content: IncomingContent
  lease: string
  /** Tells whoever waits that it is over. */
  end(): void
}

/**
 * Streams content into a video's slot. Resolves when the platform has taken all of it; the video is `processing`.
 * @throws GatewayError; then the video is back at `awaiting-upload` unless it was deleted meanwhile
 */
export async function upload(gateway: Gateway, id: string, incoming: Incoming): Promise<void> {
  const video = await acceptingVideo(gateway, id)
  const content = await open(gateway, video.platform, incoming)
  await transfer(gateway, await startUpload(gateway, id, content))
}

/** Judges the content's first bytes and its length, before anything is done on the platform. */
export async function open(
  gateway: Gateway,
  platform: string,
  { source, size: announced, estimateSize }: Incoming,
  digested = false,
): Promise<IncomingContent> {
  const { lengthRequired } = platformOf(gateway, platform)
  const estimated = announced === null && lengthRequired ? await estimateSize?.() : undefined
  const size = announced ?? estimated ?? null
  if (size === null && lengthRequired) {
    const advice = estimateSize ? announceSize : 'Send Content-Length.'
    throw new GatewayError('length-required', `${platform} requires the length of the file. ${advice}`)
  }
  const { uploadMaxBytes: maxBytes, uploadIdleTimeout: idleTimeout } = gateway.policy
  return openContent(source, {
    size,
    maxBytes,
    idleTimeout,
    signal: gateway.signal,
    wrongSize:
      announced === size
        ? undefined
        : () =>
            new GatewayError(
              'length-required',
              `${platform} requires the length of the file, and it cannot be computed from this form. ${announceSize}`,
            ),
    digested,
  })
}

/**
 * Takes the lease of a video for opened content.
 * @throws GatewayError when the video takes no content now; the content's stream is ended then
 */
export async function startUpload(
  gateway: Gateway,
  id: string,
  content: IncomingContent,
): Promise<StartedUpload> {
  const lease = randomUUID()
  const { promise: done, resolve: end } = Promise.withResolvers<void>()
  const take = () => {
    const nextCheckAt = Date.now() + gateway.policy.uploadLease
    const changes = { lease, bytesReceived: 0, bytesTotal: content.size, nextCheckAt }
    const video = advance(gateway, id, 'upload-started', changes) as Video
    gateway.uploads.set(id, { content, done })
    return video
  }
  try {
    return { video: await askStore(gateway, take), content, lease, end }
  } catch (error) {
    content.stream.destroy()
    throw error
  }
}

/** Moves the content of a started upload to the platform, and ends the upload in any case. */
export async function transfer(gateway: Gateway, started: StartedUpload): Promise<void> {
  const { video, content, lease, end } = started
  const { id } = video
  const begun = performance.now()
  const renewal = setInterval(() => renewLease(gateway, id, lease, content), gateway.policy.uploadLease / 3)
  let outcome = 'ok'
  try {
    // The content hears of the process's end only as long as its bytes flow.
    const call = callFor(gateway, id, AbortSignal.any([content.signal, gateway.signal]))
    await platformOf(gateway, video.platform).upload(video.slot, video, content, call)
    content.signal.throwIfAborted()
    if (!content.complete())
      throw new GatewayError('platform-protocol-error', 'the platform did not take the whole file')
    await storeResult(gateway, () => complete(gateway, started))
  } catch (error) {
    const reason = content.signal.reason ?? error
    outcome = reason instanceof GatewayError ? reason.code : 'internal-error'
    if (await settle(gateway, started)) outcome = 'ok'
    else throw reason
  } finally {
    clearInterval(renewal)
    content.stream.destroy()
    if (gateway.uploads.get(id)?.content === content) gateway.uploads.delete(id)
    end()
    const seconds = (performance.now() - begun) / 1000
    gateway.observer.uploadEnded({ platform: video.platform, outcome, bytes: content.received(), seconds })
  }
}

/** The platform has it all. @throws GatewayError when the lease was lost meanwhile */
function complete(gateway: Gateway, { video: { id }, content, lease }: StartedUpload): void {
  const bytes = content.received()
  const nextCheckAt = Date.now() + gateway.policy.backoff.initial
  const changes = { bytesReceived: bytes, bytesTotal: bytes, nextCheckAt }
  const holdsLease = (current: Video) => current.lease === lease
  if (!advance(gateway, id, 'upload-completed', changes, holdsLease)) throw lostLease(gateway.store.find(id))
}

/**
 * After a failure: gives the slot free for another upload. What it made for a video that was deleted meanwhile goes.
 * When every byte was sent but no answer came, the platform is asked whether it has the content.
 * @returns whether the content has arrived: then it was an upload after all
 */
async function settle(gateway: Gateway, { video: { id }, content, lease }: StartedUpload): Promise<boolean> {
  const holdsLease = (current: Video) => current.lease === lease
  try {
    const video = gateway.store.find(id)
    if (video && isDeleted(video)) await removeFromPlatform(gateway, video)
    if (!video || !holdsLease(video)) return false
    if (content.complete() && !content.signal.aborted && !gateway.signal.aborted)
      return (await reconcileUpload(gateway, video)) === 'processing'
    await storeResult(gateway, () =>
      advance(gateway, id, 'upload-cut', { bytesReceived: 0, bytesTotal: null }, holdsLease),
    )
  } catch (error) {
    // The lease runs out by itself, and the poller looks at the row then.
    gateway.log.warn({ video: id, err: error }, 'a failed upload could not be settled yet')
  }
  return false
}

/** Keeps the lease alive and the count of bytes in sight of other processes; stops an upload that lost its lease. */
async function renewLease(
  gateway: Gateway,
  id: string,
  lease: string,
  content: IncomingContent,
): Promise<void> {
  try {
    const renewed = (video: Video) => ({
      ...video,
      nextCheckAt: Date.now() + gateway.policy.uploadLease,
      bytesReceived: content.received(),
      updatedAt: Date.now(),
    })
    const current = await askStore(gateway, () =>
      gateway.store.plan(id, (video) => (video.lease === lease ? renewed(video) : video)),
    )
    // The upload may have ended while the store was held.
    const live = gateway.uploads.get(id)?.content === content
    if (live && current?.lease !== lease) content.fail(lostLease(current))
  } catch (error) {
    gateway.log.warn({ video: id, err: error }, 'lease of an upload could not be renewed')
  }
}

function lostLease(video: Video | undefined): GatewayError {
  return new GatewayError(!video || isDeleted(video) ? 'video-deleted' : 'upload-in-progress')
}

/** The video, if it takes content now. An upload that died without a word is settled first. */
async function acceptingVideo(gateway: Gateway, id: string): Promise<Video> {
  let video = visibleVideo(gateway, id)
  const dead =
    video.stage === 'uploading' && !gateway.uploads.has(id) && (video.nextCheckAt ?? 0) <= Date.now()
  if (dead) {
    await reconcileUpload(gateway, video)
    video = visibleVideo(gateway, id)
  }
  transition(video, 'upload-started', Date.now()) // throws what the caller has to hear
  return video
}
