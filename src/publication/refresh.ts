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

/** Metadata is fetched again this long before its end of validity, so that a client can still use what it reads. */
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
  /** For readers: at most so many refreshes at a time on each platform. */
  places(platform: string): Places
}

/** @param limit number of refreshes that readers may cause at a time on each platform */
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
 * The video as a reader of its metadata gets it. If the metadata is old or about to expire, the platform is asked
 * first, once for all readers. Where it does not answer in time, or fails, the stored metadata is returned.
 * @throws GatewayError when there is no such video, or no more
 */
export async function freshVideo(gateway: Gateway, id: string): Promise<Video> {
  const video = await requireVideo(gateway, id)
  if (!isOutdated(gateway, video)) return video
  const places = gateway.refreshes.places(video.platform)
  const { started, done } = gateway.refreshes.running.get(id) ?? startRefresh(gateway, video, places)
  // Counted from the start: those who come to a platform that hangs do not wait each for themselves.
  await within(started + gateway.policy.metadataWait - performance.now(), done)
  return await requireVideo(gateway, id)
}

/** Whether the platform has to be asked before the metadata is used. A look a moment ago counts, failed or not. */
function isOutdated({ policy, platforms, store }: Gateway, video: Video): boolean {
  const { stage, platform, info, thumbnail, fetchedAt, checkedAt } = video
  if (stage !== 'ready' || !platforms.has(platform)) return false
  const now = store.now()
  // A time ahead of now was written before the clock was set back.
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
  // Whoever waits hears of it; perhaps nobody does any more.
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
  // A new URL is not kept waiting by an image that is just being replaced.
  let failure: unknown
  const thumbnail = await platform.thumbnail(slot, call).catch((error) => {
    failure = error
  })
  signal.throwIfAborted()
  const outcome = await storeResult(gateway, async () => {
    signal.throwIfAborted()
    return save(gateway, video, info, thumbnail ?? undefined)
  })
  // The video is there, its launch URL was given a moment ago.
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
    // A hint of the platform that came meanwhile: what was fetched may be old already.
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
  // That nothing changed is worth no flush to the disk.
  const before = await store.find(id)
  const same = before && change(before, 0) !== before && !changed
  const after = await (same ? store.plan(id, change) : store.update(id, change))
  if (changed && after)
    gateway.log.info({ video: id, platform: after.platform }, 'metadata of a ready video changed')
  return changed ? 'changed' : 'unchanged'
}

/** Keeps readers from asking again at once. That a video is missing is for the poller to find out. */
async function noteFailure(gateway: Gateway, video: Video, error: unknown): Promise<void> {
  if (gateway.signal.aborted) return
  // An open circuit answers at once, and there was no question.
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

/** A duration plus or minus a fifth, so that what began together does not stay together. */
export function spread(ms: number): number {
  return Math.round(ms * (0.8 + 0.4 * Math.random()))
}

/** Waits for work that may fail, `ms` at most. */
async function within(ms: number, work: Promise<unknown>): Promise<void> {
  if (ms <= 0) return
  const over = new AbortController()
  const timeout = sleep(ms, undefined, { signal: over.signal }).catch(() => undefined)
  await Promise.race([work.catch(() => undefined), timeout])
  over.abort()
}
