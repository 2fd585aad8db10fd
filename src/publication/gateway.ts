import { GatewayError } from '../errors.ts'
import type { Call, VideoPlatform } from '../platform/platform.ts'
import type { Log } from '../platform/tools.ts'
import type { Attempt } from './attempt.ts'
import type { BackoffPolicy } from './backoff.ts'
import type { IncomingContent } from './content.ts'
import { type TransitionName, transition } from './lifecycle.ts'
import type { Refreshes } from './refresh.ts'
import type { VideoStore } from './store.ts'
import { storeResult } from './store-retry.ts'
import { isDeleted, type Stage, type Video } from './video.ts'

/** Durations in milliseconds, sizes in bytes. */
export interface Policy {
  backoff: BackoffPolicy
  /** How many checks may run at a time on each platform: one that is slow or hangs takes no places of the others. */
  pollConcurrency: number
  processingTimeout: number
  uploadMaxBytes: number
  uploadIdleTimeout: number
  /** How long an upload may go without renewing its lease before it counts as dead. */
  uploadLease: number
  /** How long provisioning, a check or a removal may take before somebody else picks the row up. */
  claim: number
  /** Age at which metadata is fetched again when it is read. */
  metadataMaxAge: number
  /** How long a reader waits for that, and how long the platform is not asked again after it. */
  metadataWait: number
  recheck: RecheckPolicy
}

/** How ready videos are checked. Durations in milliseconds. */
export interface RecheckPolicy {
  /** Between two checks of a video, plus or minus a fifth. */
  interval: number
  /** After a check in which the platform gave no answer. */
  retry: number
  /** Largest number of checks that each platform's lane starts per second. */
  perSecond: number
  /** A video fails when so many checks in a row miss it; the delay after the first doubles with each further one. */
  missing: { checks: number; delay: number }
}

/** An upload that runs in this process. */
export interface LiveUpload {
  content: IncomingContent
  /** Resolves when it is over, well or not. */
  done: Promise<void>
}

/** Hears what happens to videos. */
export interface PublicationObserver {
  stageChanged(change: { video: Video; from: Stage; seconds: number }): void
  uploadEnded(upload: { platform: string; outcome: string; bytes: number; seconds: number }): void
  polled(poll: { platform: string; lagSeconds: number }): void
  /** The metadata of a ready video was asked for: `changed`, `unchanged`, `missing`, or the code of the failure. */
  refreshed(refresh: { platform: string; outcome: string }): void
  /** Something may be left on the platform that the gateway cannot remove. */
  orphaned(platform: string): void
}

/** What the use cases work with; wired in `app.ts`. */
export interface Gateway {
  store: VideoStore
  platforms: ReadonlyMap<string, VideoPlatform>
  defaultPlatform: string
  policy: Policy
  uploads: Map<string, LiveUpload>
  attempts: Set<Attempt>
  refreshes: Refreshes
  /** Platforms in trouble, and when that was logged (ms of the monotonic clock). */
  troubles: Map<string, number>
  log: Log
  observer: PublicationObserver
  /** Aborted when the process gives up what is still under way. */
  signal: AbortSignal
  /** Tells the poller that a row of the platform is due at this time (ms since the epoch), perhaps earlier than planned. */
  wakePoller(platform: string, at: number): void
}

/** @throws GatewayError when there is no such video, or no more */
export function visibleVideo(gateway: Gateway, id: string): Video {
  const video = gateway.store.find(id)
  if (!video || video.stage === 'provisioning') throw new GatewayError('video-not-found')
  if (isDeleted(video)) throw new GatewayError('video-deleted')
  return video
}

/** @throws GatewayError for a platform that this gateway is not configured for (any more) */
export function platformOf(gateway: Gateway, name: string): VideoPlatform {
  const platform = gateway.platforms.get(name)
  if (!platform) throw new GatewayError('platform-unavailable', `the platform ${name} is not configured`)
  return platform
}

/** What goes with a call for this video: a changed slot is stored whatever the stage. */
export function callFor(gateway: Gateway, id: string, signal: AbortSignal = gateway.signal): Call {
  return {
    signal,
    keep: async (slot) => {
      await storeResult(gateway, () => gateway.store.update(id, (current) => ({ ...current, slot })))
    },
  }
}

/**
 * Moves a video along the lifecycle in the store, as a compare-and-set, with one log line.
 * @param guard when it refuses the current row, nothing happens
 * @returns the row after it; undefined when the guard refused or the row is gone
 * @throws GatewayError when the lifecycle does not allow it
 */
export function advance(
  gateway: Gateway,
  id: string,
  name: TransitionName,
  changes: Partial<Video> = {},
  guard: (current: Video) => boolean = () => true,
): Video | undefined {
  let before: Video | undefined
  const after = gateway.store.update(id, (current) => {
    before = guard(current) ? current : undefined
    return before ? transition(current, name, Date.now(), changes) : current
  })
  if (!before || !after) return undefined
  const { stage: from, stageSince } = before
  const { stage: to, platform, slot, error } = after
  gateway.log.info(
    { video: id, platform, platformVideo: slot.videoId, from, to, ...(error && { error }) },
    name,
  )
  // Not below zero, should the clock have been set back.
  const seconds = Math.max(0, after.stageSince - stageSince) / 1000
  gateway.observer.stageChanged({ video: after, from, seconds })
  if (after.nextCheckAt !== null) gateway.wakePoller(platform, after.nextCheckAt)
  return after
}
