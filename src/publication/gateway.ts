import { GatewayError } from '../errors.ts'
import type { VideoPlatform } from '../platform/platform.ts'
import type { Log } from '../platform/tools.ts'
import type { BackoffPolicy } from './backoff.ts'
import type { IncomingContent } from './content.ts'
import type { HintOutcome } from './hint.ts'
import type { Work } from './hold.ts'
import type { Patience } from './judgement.ts'
import type { LeaseWatch } from './leases.ts'
import type { Refreshes } from './refresh.ts'
import type { VideoStore } from './store.ts'
import { isDeleted, type Stage, type Video } from './video.ts'

/** Durations in milliseconds, sizes in bytes. */
export interface Policy {
  backoff: BackoffPolicy
  /** Maximum number of concurrent checks on each platform, so that a slow one does not use the places of others. */
  pollConcurrency: number
  /** Before a processing fails for what the platform says, or does not say. */
  patience: Patience
  uploadMaxBytes: number
  uploadIdleTimeout: number
  /** Time after its last renewal at which the hold of an upload expires. */
  uploadLease: number
  /** Maximum time of provisioning, a check or a deletion, before other work may take over the row. */
  claim: number
  /** Age at which metadata is fetched again when it is read. */
  metadataMaxAge: number
  /** Maximum time that a reader waits for that, and pause before the next attempt. */
  metadataWait: number
  recheck: RecheckPolicy
  /** Age at which events are deleted. */
  eventRetention: number
  /** Time for which the row of a deleted video is kept. */
  deletedRetention: number
}

/** How ready videos are checked. Durations in milliseconds. */
export interface RecheckPolicy {
  /** Between two checks of a video, plus or minus a fifth. */
  interval: number
  /** Delay after a check without a response of the platform. */
  retry: number
  /** Largest number of checks that each platform's lane starts per second. */
  perSecond: number
  /** Number of checks in a row in which a video must be missing before it fails; the delay doubles after each. */
  missing: { checks: number; delay: number }
}

/** An upload that runs in this process. */
export interface ActiveUpload {
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
  hinted(hint: { platform: string; outcome: HintOutcome }): void
  /** Reports that a slot may remain on the platform, because the gateway could not search for it or delete it. */
  orphaned(platform: string): void
  /** Something was left on the platform, and is removed now. */
  leftoverRemoved(platform: string): void
}

/** Dependencies of the use cases; wired in `app.ts`. */
export interface Gateway {
  store: VideoStore
  platforms: ReadonlyMap<string, VideoPlatform>
  defaultPlatform: string
  policy: Policy
  leases: LeaseWatch
  uploads: Map<string, ActiveUpload>
  /** The work on videos in this process that has a time limit. */
  works: Set<Work>
  refreshes: Refreshes
  /** Platforms in trouble, and when that was logged (ms of the monotonic clock). */
  troubles: Map<string, number>
  log: Log
  observer: PublicationObserver
  /** Aborted when the process stops the work in progress. */
  signal: AbortSignal
  /** Aborted shortly after `signal`: until then, what was given up is removed from the platforms. */
  cleanupSignal: AbortSignal
  /** Tells the poller that a row of the platform becomes due in this number of ms, perhaps earlier than planned. */
  wakePoller(platform: string, ms: number): void
}

/** @throws GatewayError when the video does not exist, or no longer */
export async function requireVideo(gateway: Gateway, id: string): Promise<Video> {
  const video = await gateway.store.find(id)
  if (!video || video.stage === 'provisioning') throw new GatewayError('video-not-found')
  if (isDeleted(video)) throw new GatewayError('video-deleted')
  return video
}

/** The platform of a video, or its account, is not configured, which only the operator can change. */
export class NotConfiguredError extends GatewayError {
  constructor(detail: string) {
    super('platform-unavailable', detail, { retryAfter: 600 })
  }
}

/**
 * The platform of a video, if it is configured, and for the account that the video is in.
 * @throws GatewayError
 */
export function platformOf(
  gateway: Gateway,
  { platform: name, account }: Pick<Video, 'platform' | 'account'>,
): VideoPlatform {
  const platform = gateway.platforms.get(name)
  if (!platform)
    throw new NotConfiguredError(`The platform ${name} of this video is not configured. Tell the operator.`)
  if (account !== null && account !== platform.account)
    throw new NotConfiguredError(`The video is in another account of ${name}. Tell the operator.`)
  return platform
}
