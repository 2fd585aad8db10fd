import type { Readable } from 'node:stream'
import { GatewayError } from '../errors.ts'
import { isRefusal } from '../platform/platform.ts'
import { advance, begin } from './advance.ts'
import { callFor } from './call.ts'
import { check } from './check.ts'
import { type IncomingContent, openContent } from './content.ts'
import { type IncomingSize, sizeFor } from './content-size.ts'
import { deleteFromPlatform } from './delete.ts'
import { type Gateway, platformOf, requireVideo } from './gateway.ts'
import { beginWork, type Hold, holding, holdLost, isHeld, takeExpired } from './hold.ts'
import { removeUnnamed } from './leftovers.ts'
import { transition } from './lifecycle.ts'
import { lookForLateContent, reconcileUpload } from './reconcile.ts'
import { keepHeld } from './renewal.ts'
import { askStore, storeResult } from './store-retry.ts'
import { isDeleted, type Video } from './video.ts'

/** Incoming content. */
export interface Incoming extends IncomingSize {
  source: Readable
}

/** An upload that holds its video. */
export interface StartedUpload {
  /** The row as it was when the upload took hold of it. */
  video: Video
  content: IncomingContent
  /** Ends the wait of others for this upload. */
  end(): void
}

/**
 * Streams content into a video's slot. Resolves when the platform has accepted all of it; the video is `processing`.
 * @throws GatewayError; then the video is `awaiting-upload` again unless it was deleted in the meantime
 */
export async function upload(gateway: Gateway, id: string, incoming: Incoming): Promise<void> {
  const video = await requireUploadableVideo(gateway, id)
  const content = await open(gateway, video.platform, incoming)
  await transfer(gateway, await startUpload(gateway, video, content))
}

/** Checks the content's first bytes and its size, before any call to the platform. */
export async function open(
  gateway: Gateway,
  platform: string,
  incoming: Incoming,
  computeDigest = false,
): Promise<IncomingContent> {
  const size = await sizeFor(platformOf(gateway, { platform, account: null }), incoming)
  const { uploadMaxBytes: maxBytes, uploadIdleTimeout: idleTimeout } = gateway.policy
  return openContent(incoming.source, {
    ...size,
    maxBytes,
    idleTimeout,
    signal: gateway.signal,
    computeDigest,
  })
}

/**
 * Takes hold of a video for opened content.
 * @param row as it was last read
 * @throws GatewayError when the video accepts no content now; the content's stream is then destroyed
 */
export async function startUpload(
  gateway: Gateway,
  row: Video,
  content: IncomingContent,
): Promise<StartedUpload> {
  const { id } = row
  const { promise: done, resolve: end } = Promise.withResolvers<void>()
  const changes = (now: number) => ({
    bytesReceived: 0,
    bytesTotal: content.size,
    nextCheckAt: now + gateway.policy.uploadLease,
  })
  // Registered before the row changes, so that a deletion in between ends it and finds nothing on the platform.
  const starting = beginWork(gateway, { id, epoch: 0 })
  try {
    const video = await askStore(gateway, () => begin(gateway, row, 'upload-started', changes))
    starting.end.signal.throwIfAborted()
    gateway.uploads.set(id, { content, done })
    return { video: video as Video, content, end }
  } catch (error) {
    content.stream.destroy()
    throw error
  } finally {
    gateway.works.delete(starting)
  }
}

/**
 * Moves the content of a started upload to the platform, and ends the upload in any case.
 * @returns the row, `processing` now
 */
export async function transfer(gateway: Gateway, { video, content, end }: StartedUpload): Promise<Video> {
  const { id, epoch } = video
  const begun = performance.now()
  const hold = { id, epoch, signal: AbortSignal.any([content.signal, gateway.signal]) }
  const over = new AbortController()
  void keepHeld(gateway, hold, content, over.signal)
  let outcome = 'ok'
  try {
    await platformOf(gateway, video).upload(video.slot, video, content, callFor(gateway, hold))
    content.signal.throwIfAborted()
    if (!content.complete())
      throw new GatewayError('platform-protocol-error', 'The platform did not accept the whole file.')
    return await storeResult(gateway, () => complete(gateway, hold, content))
  } catch (error) {
    const { arrived, reason } = await resolveFailedUpload(
      gateway,
      hold,
      content,
      content.signal.reason ?? error,
    )
    if (arrived) return arrived
    outcome = reason instanceof GatewayError ? reason.code : 'internal-error'
    throw reason
  } finally {
    over.abort()
    content.stream.destroy()
    if (gateway.uploads.get(id)?.content === content) gateway.uploads.delete(id)
    end()
    const seconds = (performance.now() - begun) / 1000
    gateway.observer.uploadEnded({ platform: video.platform, outcome, bytes: content.received(), seconds })
  }
}

/** Stores that the platform has all content. @throws GatewayError when the hold was lost in the meantime */
async function complete(gateway: Gateway, hold: Hold, content: IncomingContent): Promise<Video> {
  const bytes = content.received()
  const changes = (now: number) => ({
    bytesReceived: bytes,
    bytesTotal: bytes,
    nextCheckAt: now + gateway.policy.backoff.initial,
    mayArrive: null,
    undoAt: null,
  })
  const video = await advance(gateway, hold, 'upload-completed', changes)
  if (!video) throw holdLost(await gateway.store.find(hold.id))
  return video
}

/** Outcome of a failed upload: the row if the content has arrived after all, else the error for the caller. */
interface Ending {
  arrived?: Video | undefined
  reason?: unknown
}

/**
 * Resolves a failed upload: frees the slot for another upload. If every byte was sent and the response is unknown, asks
 * the platform whether it has the content. A rejection is a known response.
 */
async function resolveFailedUpload(
  gateway: Gateway,
  hold: Hold,
  content: IncomingContent,
  reason: unknown,
): Promise<Ending> {
  const { store } = gateway
  const ending: Ending = { reason }
  try {
    const video = await store.find(hold.id)
    if (video && isDeleted(video)) {
      // In every case: a platform's error is meaningless for a video that another process has deleted.
      ending.reason = holdLost(video)
      await clearDeleted(gateway, video, hold)
    }
    // A slot that the upload created and could not store is searched for soon.
    const soon = gateway.policy.backoff.initial
    await storeResult(gateway, () => store.planLeftover(hold.id, hold.epoch, 0, soon))
    if (!isHeld(hold, video)) return ending
    const sent = content.complete()
    if (sent && gateway.signal.aborted) {
      // This process is ending: the one that runs next asks the platform.
      await store.plan(hold.id, (row, now) => (isHeld(hold, row) ? { ...row, nextCheckAt: now } : row))
      return ending
    }
    if (sent && !isRefusal(reason)) {
      const reconcile = (asking: Hold) => reconcileUpload(gateway, video, asking, content.received())
      const arrived = await holding(gateway, video, reconcile)
      // If an earlier upload may have arrived, it is unknown which of the two the platform has.
      return video.mayArrive === null ? { ...ending, arrived } : ending
    }
    const changes = { bytesReceived: 0, bytesTotal: null, nextCheckAt: video.undoAt }
    await storeResult(gateway, () => advance(gateway, hold, 'upload-interrupted', changes))
  } catch (error) {
    // The hold expires, and the poller checks the row then.
    gateway.log.warn(
      { video: hold.id, err: error },
      'could not resolve a failed upload; the poller will retry',
    )
  }
  return ending
}

/** Deletes what an upload created for a video that was deleted in the meantime; a later search finds the rest. */
async function clearDeleted(gateway: Gateway, video: Video, { id, epoch }: Hold): Promise<void> {
  const platform = platformOf(gateway, video)
  const clear = async (hold: Hold) => {
    await deleteFromPlatform(gateway, video, hold)
    await removeUnnamed(gateway, platform, video, hold.signal)
  }
  try {
    await holding(gateway, video, clear, gateway.cleanupSignal)
  } catch (error) {
    const soon = gateway.policy.backoff.initial
    await storeResult(gateway, () => gateway.store.expectLeftover(id, epoch, soon))
    throw error
  }
}

/**
 * Returns the video, if it accepts content now. First resolves an earlier upload that died, or that the platform did
 * not have when it was asked.
 */
async function requireUploadableVideo(gateway: Gateway, id: string): Promise<Video> {
  const video = await requireVideo(gateway, id)
  const leaseExpired = video.stage === 'uploading' && (await takeExpired(gateway, id))
  if (leaseExpired) await check(gateway, leaseExpired)
  const late = !leaseExpired && video.mayArrive !== null
  if (late) await lookForLateContent(gateway, id)
  const current = leaseExpired || late ? await requireVideo(gateway, id) : video
  transition(current, 'upload-started', gateway.store.now()) // throws the error for the caller
  return current
}
