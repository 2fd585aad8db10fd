import { randomUUID } from 'node:crypto'
import type { Readable } from 'node:stream'
import { GatewayError } from '../errors.ts'
import { reconcileUpload } from './check.ts'
import { type IncomingContent, openContent } from './content.ts'
import { advance, callFor, type Gateway, platformOf, visibleVideo } from './gateway.ts'
import { transition } from './lifecycle.ts'
import { removeFromPlatform } from './remove.ts'
import type { Video } from './video.ts'

/** The bytes as they come in. */
export interface Incoming {
  source: Readable
  /** Exact length in bytes, null when it cannot be known. */
  size: number | null
  /** See `openContent`. */
  confirmEnd?: () => Promise<void>
}

/**
 * Streams content into a video's slot. Resolves when the platform has taken all of it; the video is `processing`.
 * @throws GatewayError; then the video is back at `awaiting-upload` unless it was deleted meanwhile
 */
export async function upload(gateway: Gateway, id: string, incoming: Incoming): Promise<void> {
  const video = await acceptingVideo(gateway, id)
  const content = await open(gateway, video.platform, incoming)
  await transfer(gateway, video, content)
}

/** Judges the content's first bytes and its length, before anything is done on the platform. */
export async function open(gateway: Gateway, platform: string, incoming: Incoming): Promise<IncomingContent> {
  const { source, ...options } = incoming
  if (options.size === null && platformOf(gateway, platform).lengthRequired) {
    throw new GatewayError('length-required', `${platform} needs the length: send Content-Length`)
  }
  const { uploadMaxBytes: maxBytes, uploadIdleTimeout: idleTimeout } = gateway.policy
  return openContent(source, { ...options, maxBytes, idleTimeout })
}

/** Moves opened content to the platform, under a lease. Ends the content's stream in any case. */
export async function transfer(gateway: Gateway, video: Video, content: IncomingContent): Promise<void> {
  const { id } = video
  const lease = randomUUID()
  const holdsLease = (current: Video) => current.lease === lease
  const done = Promise.withResolvers<void>()
  const started = performance.now()
  let outcome = 'ok'
  let renewal: NodeJS.Timeout | undefined
  try {
    const nextCheckAt = Date.now() + gateway.policy.uploadLease
    const changes = { lease, bytesReceived: 0, bytesTotal: content.size, nextCheckAt }
    const { slot } = advance(gateway, id, 'upload-started', changes) as Video
    gateway.uploads.set(id, { content, done: done.promise })
    renewal = setInterval(() => renewLease(gateway, id, lease, content), gateway.policy.uploadLease / 3)

    const call = callFor(gateway, id, AbortSignal.any([content.signal, gateway.signal]))
    await platformOf(gateway, video.platform).upload(slot, video, content, call)
    content.signal.throwIfAborted()
    if (!content.complete())
      throw new GatewayError('platform-protocol-error', 'the platform did not take the whole file')
    await complete(gateway, id, content, holdsLease)
  } catch (error) {
    outcome = error instanceof GatewayError ? error.code : 'internal-error'
    if (await mendedUpload(gateway, id, content, lease)) outcome = 'ok'
    else throw content.signal.reason ?? error
  } finally {
    clearInterval(renewal)
    content.stream.destroy()
    gateway.uploads.delete(id)
    done.resolve()
    const seconds = (performance.now() - started) / 1000
    gateway.observer.uploadEnded({ platform: video.platform, outcome, bytes: content.received(), seconds })
  }
}

/** The platform has it all. If the video was deleted meanwhile, the platform's copy goes too. */
async function complete(
  gateway: Gateway,
  id: string,
  content: IncomingContent,
  holdsLease: (video: Video) => boolean,
) {
  const bytes = content.received()
  const nextCheckAt = Date.now() + gateway.policy.backoff.initial
  const changes = { bytesReceived: bytes, bytesTotal: bytes, nextCheckAt }
  if (advance(gateway, id, 'upload-completed', changes, holdsLease)) return
  const current = gateway.store.find(id)
  if (current?.stage === 'deleting' || current?.stage === 'deleted')
    await removeFromPlatform(gateway, current)
  throw new GatewayError('video-deleted')
}

/**
 * After a failure: gives the slot free for another upload. When every byte was sent but no answer came, the
 * platform is asked whether it has the content; then the upload was one after all.
 * @returns whether the content has arrived
 */
async function mendedUpload(
  gateway: Gateway,
  id: string,
  content: IncomingContent,
  lease: string,
): Promise<boolean> {
  const holdsLease = (current: Video) => current.lease === lease
  try {
    const video = gateway.store.find(id)
    if (!video || !holdsLease(video)) return false
    if (content.complete() && !content.signal.aborted && !gateway.signal.aborted) {
      return (await reconcileUpload(gateway, video)) === 'processing'
    }
    advance(gateway, id, 'upload-cut', { bytesReceived: 0, bytesTotal: null }, holdsLease)
  } catch (error) {
    // The lease runs out by itself, and the poller looks at the row then.
    gateway.log.warn({ video: id, err: error }, 'a failed upload could not be settled yet')
  }
  return false
}

/** Keeps the lease alive and the count of bytes in sight of other processes; stops an upload that lost its lease. */
function renewLease(gateway: Gateway, id: string, lease: string, content: IncomingContent): void {
  try {
    const nextCheckAt = Date.now() + gateway.policy.uploadLease
    const bytesReceived = content.received()
    const current = gateway.store.plan(id, (video) =>
      video.lease === lease ? { ...video, nextCheckAt, bytesReceived, updatedAt: Date.now() } : video,
    )
    if (current?.lease === lease) return
    const gone = current?.stage === 'deleting' || current?.stage === 'deleted'
    content.fail(new GatewayError(gone ? 'video-deleted' : 'upload-in-progress'))
  } catch (error) {
    gateway.log.warn({ video: id, err: error }, 'lease of an upload could not be renewed')
  }
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
