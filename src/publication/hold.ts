import { GatewayError } from '../errors.ts'
import type { Gateway } from './gateway.ts'
import { askStore } from './store-retry.ts'
import { isDeleted, type Video } from './video.ts'

/**
 * The right to work on a video. Work on a row begins by taking hold of it: the row's epoch grows by one, and
 * `nextCheckAt` is the time at which the hold expires. Every write of that work carries the epoch, and the store
 * rejects it once the row has a newer one, so a late write does no harm. A call to a platform is aborted when its hold
 * ends.
 */
export interface Hold {
  id: string
  epoch: number
  /** Aborted when the hold expires or the process stops; the caller gets its reason. */
  signal: AbortSignal
}

/** Part of a claim after which its work ends: the row is then planned again before another process claims it. */
const workShare = 0.9

/** Work on a video in this process. */
export interface Work {
  video: string
  /** Epoch of its hold. */
  epoch: number
  end: AbortController
}

/**
 * Runs work under the hold of the row's epoch, until the claim expires, the video is deleted or the process stops. The
 * call then ends even if an adapter ignores the signal: a late result is dropped, so that a platform that hangs does
 * not block other work.
 * @param stopped aborted when the process stops work of this kind
 * @throws what the work throws, or the reason for its end
 */
export async function holding<T>(
  gateway: Gateway,
  { id, epoch }: Pick<Video, 'id' | 'epoch'>,
  work: (hold: Hold) => Promise<T>,
  stopped = gateway.signal,
): Promise<T> {
  const current = beginWork(gateway, { id, epoch })
  const { end } = current
  const { signal } = end
  const limit = gateway.policy.claim * workShare
  const timer = setTimeout(() => end.abort(tooLong(limit)), limit)
  const stop = () => end.abort(stopped.reason)
  stopped.addEventListener('abort', stop)
  const { promise: ended, reject } = Promise.withResolvers<never>()
  try {
    stopped.throwIfAborted()
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
    return await Promise.race([work({ id, epoch, signal }), ended])
  } finally {
    clearTimeout(timer)
    stopped.removeEventListener('abort', stop)
    gateway.works.delete(current)
  }
}

/** Registers work on a video, so that its deletion can end it. The caller must delete it from `gateway.works`. */
export function beginWork(gateway: Gateway, { id: video, epoch }: Pick<Video, 'id' | 'epoch'>): Work {
  const work = { video, epoch, end: new AbortController() }
  gateway.works.add(work)
  return work
}

/** Ends the work on a deleted video, except work that began later: another deletion. */
export function endWork(gateway: Gateway, deleted: Pick<Video, 'id' | 'epoch'>): void {
  for (const { video, epoch, end } of gateway.works)
    if (video === deleted.id && epoch < deleted.epoch) end.abort(new GatewayError('video-deleted'))
}

function tooLong(ms: number): GatewayError {
  return new GatewayError('platform-timeout', `The platform did not respond within ${ms / 1000} s.`)
}

/** Takes hold of a row whose hold has expired. @returns the row, or undefined while the hold is valid */
export async function takeExpired(gateway: Gateway, id: string): Promise<Video | undefined> {
  let taken = false
  const take = (current: Video, now: number) => {
    taken = current.nextCheckAt !== null && current.nextCheckAt <= now && gateway.leases.areTrusted()
    return taken ? { ...current, epoch: current.epoch + 1, nextCheckAt: now + gateway.policy.claim } : current
  }
  const video = await askStore(gateway, () => gateway.store.plan(id, take))
  return taken ? video : undefined
}

/** Whether the row still belongs to this hold. */
export function isHeld({ epoch }: Pick<Hold, 'epoch'>, current: Video | undefined): current is Video {
  return current?.epoch === epoch
}

/** Returns the error for a caller whose hold was lost to other work. */
export function holdLost(video: Video | undefined): GatewayError {
  return new GatewayError(!video || isDeleted(video) ? 'video-deleted' : 'upload-in-progress')
}
