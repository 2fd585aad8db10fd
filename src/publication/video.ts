import { randomInt } from 'node:crypto'
import { v7 as uuidv7 } from 'uuid'
import type { Slot, Thumbnail, VideoInfo } from '../platform/platform.ts'
import type { Evidence } from './judgement.ts'

/** The precise state. The first and the last two are the gateway's own business and are never shown. */
export type Stage =
  | 'provisioning'
  | 'awaiting-upload'
  | 'uploading'
  | 'processing'
  | 'ready'
  | 'failed'
  | 'deleting'
  | 'deleted'

/** The stable three that the back office relies on. */
export type Status = 'pending' | 'ready' | 'error'

/** Input of a creation. */
export interface VideoInput {
  title: string
  description?: string | undefined
  reference?: string | undefined
  platform?: string | undefined
}

/** One publication: a row of the store. Times are milliseconds since the epoch, sizes bytes. */
export interface Video {
  id: string
  title: string
  description: string | null
  reference: string | null
  platform: string
  /** The platform's account of the video, in the adapter's form; null until there is a slot. */
  account: string | null
  slot: Slot
  stage: Stage
  /** Time at which the stage was entered. */
  stageSince: number
  error: { code: string; message: string } | null
  bytesReceived: number
  bytesTotal: number | null
  /**
   * Size of an upload that was sent completely, whose response was lost, and that the platform did not have when the
   * gateway asked: it may still arrive. Null if there is none.
   */
  mayArrive: number | null
  /** Grows whenever work takes hold of the row: see `hold.ts`. */
  epoch: number
  /**
   * Time at which an unfinished creation with content is undone, in ms since the epoch. Null for every other video, and
   * once the content has arrived.
   */
  undoAt: number | null
  /** Of the processing, 0 to 1; null if the platform does not report it, missing in rows from before this field. */
  progress?: number | null
  info: VideoInfo | null
  thumbnail: Thumbnail | null
  /**
   * Time at which the platform last returned `info` and `thumbnail`; missing in rows from before this field. Null if a
   * webhook said that they may have changed since.
   */
  fetchedAt?: number | null
  createdAt: number
  updatedAt: number
  checkedAt: number | null
  /** Time of the poller's next check; null when none is needed. While the row is held: expiry of the hold. */
  nextCheckAt: number | null
  /** End of the poller's latest claim: while it is also `nextCheckAt`, a check holds the row. */
  claimedUntil: number | null
  /** The epoch of the hold under which the platform's latest hint came: who holds it leaves a check that follows soon. */
  hintedEpoch: number | null
  /** Number of checks since the stage was entered, for the backoff. For a ready video: number of consecutive misses. */
  checks: number
  /** Findings of the checks of this processing; null before the first check. */
  evidence: Evidence | null
  /** Counts the changes; the compare-and-set compares it. */
  version: number
}

/** Epoch of the creation of a video. */
export const firstEpoch = 1

/**
 * Returns the row of a new video, held by its creator.
 * @param claim time that the provisioning may take before other work may take it over, in ms
 * @param now the time by the store's clock, in ms since the epoch
 */
export function newVideo(input: VideoInput, platform: string, claim: number, now: number): Video {
  return {
    id: newId(now),
    title: input.title,
    description: input.description ?? null,
    reference: input.reference ?? null,
    platform,
    account: null,
    slot: { videoId: null, handle: null },
    stage: 'provisioning',
    stageSince: now,
    error: null,
    bytesReceived: 0,
    bytesTotal: null,
    mayArrive: null,
    epoch: firstEpoch,
    undoAt: null,
    progress: null,
    info: null,
    thumbnail: null,
    fetchedAt: null,
    createdAt: now,
    updatedAt: now,
    checkedAt: null,
    nextCheckAt: now + claim,
    claimedUntil: null,
    hintedEpoch: null,
    checks: 0,
    evidence: null,
    version: 1,
  }
}

let lastId = { msecs: 0, seq: 0 }

/**
 * Returns a UUIDv7: ids sort by the time in them, which is the store's. Those that one process makes within a
 * millisecond sort by a counter that begins at random (RFC 9562 §6.2, method 1).
 */
function newId(now: number): string {
  const seq = now === lastId.msecs ? lastId.seq + 1 : randomInt(2 ** 31)
  lastId = { msecs: now, seq }
  return uuidv7(lastId)
}

/** Returns the status of a stage. */
export function statusOf(stage: Stage): Status {
  if (stage === 'ready') return 'ready'
  return stage === 'failed' ? 'error' : 'pending'
}

/** Whether the video is gone for the back office, on the platform or soon. */
export function isDeleted({ stage }: Video): boolean {
  return stage === 'deleting' || stage === 'deleted'
}

/** Stages of a video that the back office can see, by status. */
export const visibleStages: Record<Status, readonly Stage[]> = {
  pending: ['awaiting-upload', 'uploading', 'processing'],
  ready: ['ready'],
  error: ['failed'],
}
