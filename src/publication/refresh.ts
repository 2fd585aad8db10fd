import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { GatewayError } from '../errors.ts'
import { CircuitOpenError, type Thumbnail, type VideoInfo, VideoMissingError } from '../platform/platform.ts'
import { callFor } from './call.ts'
import { type Gateway, platformOf, requireVideo } from './gateway.ts'
import { type Hold, holding } from './hold.ts'
import { shownMetadata } from './metadata.ts'
import { createPlaces, type Places } from './places.ts'
import { storeResult } from './store-retry.ts'
import { reportFailure, reportSuccess } from './trouble.ts'
import type { Video } from './video.ts'

/** Time before the expiry of metadata at which it is fetched again, so that a client can still use what it reads. */
const validityMarginMs = 60_000

/** A refresh in progress. */
interface Refresh {
  /** Time of its start on the monotonic clock, in ms. */
  started: number
  done: Promise<void>
}

/** The refreshes in progress in this process: at most one per video. */
export interface Refreshes {
  running: Map<string, Refresh>
  /** Limits the concurrent refreshes by readers on each platform. */
  places(platform: string): Places
}

/** @param limit maximum number of concurrent refreshes by readers on each platform */
export function createRefreshes(limit: number): Refreshes {
  const byPlatform = new Map<string, Places>()
  return {
    running: new Map(),
    places(platform) {
      const places = byPlatform.get(platform) ?? createPlaces(limit)
      byPlatform.set(platform, places)
      return places
    },
  }
}

/**
 * Returns a video for a reader of its metadata. If the metadata is old or about to expire, the gateway first fetches it
 * again, once for all readers. If the platform does not respond in time, or fails, the stored metadata is returned.
 * @throws GatewayError when the video does not exist, or no longer
 */
export async function freshVideo(gateway: Gateway, id: string): Promise<Video> {
  const video = await requireVideo(gateway, id)
  if (!isOutdated(gateway, video)) return video
  const places = gateway.refreshes.places(video.platform)
  const { started, done } = gateway.refreshes.running.get(id) ?? startRefresh(gateway, video, places)
  // Measured from its start, so that later readers of a platform that hangs do not each wait for the full time.
  await within(started + gateway.policy.metadataWait - performance.now(), done)
  return await requireVideo(gateway, id)
}

/** Whether the metadata must be fetched before it is used. A very recent attempt counts, even a failed one. */
function isOutdated({ policy, platforms, store }: Gateway, video: Video): boolean {
  const { stage, platform, info, thumbnail, fetchedAt, checkedAt } = video
  if (stage !== 'ready' || !platforms.has(platform)) return false
  const now = store.now()
  // A time in the future was written before the clock was set back.
  const isWithin = (time: number | null | undefined, ms: number) =>
    typeof time === 'number' && time <= now && now - time < ms
  if (isWithin(checkedAt, policy.metadataWait)) return false
  const end = Math.min(info?.validUntil ?? Infinity, thumbnail?.validUntil ?? Infinity)
  return !isWithin(fetchedAt, policy.metadataMaxAge) || now >= end - validityMarginMs
}

/** Fetches the metadata of a ready video and stores it. `done` rejects with the reason when that fails. */
export function startRefresh(gateway: Gateway, video: Video, places: Places = (work) => work()): Refresh {
  const { running } = gateway.refreshes
  const run = () => holding(gateway, video, (hold) => fetchMetadata(gateway, video, hold))
  const done = places(run)
    .catch(async (error) => {
      await noteFailure(gateway, video, error)
      throw error
    })
    .finally(() => running.delete(video.id))
  // Waiting readers get the error; there may be none left.
  done.catch(() => undefined)
  const refresh = { started: performance.now(), done }
  running.set(video.id, refresh)
  return refresh
}

async function fetchMetadata(gateway: Gateway, video: Video, hold: Hold): Promise<void> {
  const { platform: name, slot } = video
  const { signal } = hold
  const platform = platformOf(gateway, video)
  const call = callFor(gateway, hold)
  const info = await platform.info(slot, call)
  signal.throwIfAborted()
  // A thumbnail that is just being replaced does not delay a new launch URL.
  let failure: unknown
  const thumbnail = await platform.thumbnail(slot, call).catch((error) => {
    failure = error
  })
  signal.throwIfAborted()
  const outcome = await storeResult(gateway, async () => {
    signal.throwIfAborted()
    return save(gateway, video, info, thumbnail ?? undefined)
  })
  // The video exists: the platform has just returned its launch URL.
  if (failure instanceof VideoMissingError)
    throw new GatewayError(
      'platform-protocol-error',
      `${name} does not return the thumbnail of a video that it has`,
    )
  if (failure) throw failure
  gateway.observer.refreshed({ platform: name, outcome })
  reportSuccess(gateway, name)
}

async function save(gateway: Gateway, video: Video, info: VideoInfo, thumbnail: Thumbnail | undefined) {
  const { id } = video
  const { store, policy } = gateway
  const interval = spread(policy.recheck.interval)
  let changed = false
  const change = (current: Video, now: number): Video => {
    if (current.stage !== 'ready') return current
    // A webhook arrived during the fetch: the fetched metadata may already be old.
    const hinted = current.fetchedAt === null && video.fetchedAt !== null
    const complete = thumbnail && !hinted && { fetchedAt: now, nextCheckAt: now + interval }
    const next = {
      ...current,
      info,
      thumbnail: thumbnail ?? current.thumbnail,
      checkedAt: now,
      checks: 0,
      ...complete,
    }
    changed = !isDeepStrictEqual(shownMetadata(current), shownMetadata(next))
    return changed ? { ...next, updatedAt: now } : next
  }
  // If nothing changed, the write is not flushed to the disk.
  const before = await store.find(id)
  const same = before && change(before, 0) !== before && !changed
  const after = await (same ? store.plan(before, change) : store.update(before ?? id, change))
  if (changed && after)
    gateway.log.info({ video: id, platform: after.platform }, 'metadata of a ready video changed')
  return changed ? 'changed' : 'unchanged'
}

/** Notes a failure, so that readers do not try again immediately. A missing video is left to the poller. */
async function noteFailure(gateway: Gateway, video: Video, error: unknown): Promise<void> {
  if (gateway.signal.aborted) return
  // An open circuit rejects immediately, without a request.
  if (error instanceof CircuitOpenError) return
  const missing = error instanceof VideoMissingError
  const outcome = missing ? 'missing' : error instanceof GatewayError ? error.code : 'internal-error'
  gateway.observer.refreshed({ platform: video.platform, outcome })
  reportFailure(gateway, video, error, 'could not fetch metadata again')
  const { delay } = gateway.policy.recheck.missing
  try {
    await gateway.store.plan(video.id, (current, now) => {
      if (current.stage !== 'ready') return current
      const soon = now + delay
      const nextCheckAt = missing ? Math.min(current.nextCheckAt ?? soon, soon) : current.nextCheckAt
      return { ...current, checkedAt: now, nextCheckAt }
    })
  } catch (error) {
    gateway.log.warn({ video: video.id, err: error }, 'could not store a failed fetch of metadata')
  }
}

/** Returns a duration plus or minus a fifth, so that videos do not stay in step. */
export function spread(ms: number): number {
  return Math.round(ms * (0.8 + 0.4 * Math.random()))
}

/** Waits at most `ms` for work that may fail. */
async function within(ms: number, work: Promise<unknown>): Promise<void> {
  if (ms <= 0) return
  const over = new AbortController()
  const timeout = sleep(ms, undefined, { signal: over.signal }).catch(() => undefined)
  await Promise.race([work.catch(() => undefined), timeout])
  over.abort()
}
