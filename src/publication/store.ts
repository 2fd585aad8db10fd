import { GatewayError } from '../errors.ts'
import type { EventType, VideoEvent } from './events.ts'
import type { Stage, Status, Video } from './video.ts'
import type { WebhookStore } from './webhooks.ts'

/**
 * Another process holds the store's lock, or the database cannot be reached at the moment. The same call may succeed a
 * little later: see `store-retry.ts`.
 */
export class StoreBusyError extends GatewayError {
  /** Since when no call has succeeded, on the monotonic clock, in ms. */
  readonly since: number

  constructor(since: number, cause?: unknown) {
    super('store-unavailable', undefined, { retryAfter: 5, cause })
    this.since = since
  }
}

/** A page of the visible videos, newest first. `before` is the id after which the page starts. */
export interface VideoQuery {
  status?: Status | undefined
  platform?: string | undefined
  reference?: string | undefined
  before?: string | undefined
  limit: number
}

/** Query of the poller for due rows of one platform. Durations in ms. */
export interface DueQuery {
  platform: string
  /** Videos that are ready, or all others. A ready one that has no next check yet is due. */
  ready: boolean
  /** Duration of the claim: the next check of the claimed rows is that far ahead. */
  claim: number
  /** A check that is planned further ahead than this counts as due: the clock was set back. */
  horizon: number
  limit: number
}

/** The connections of this process to a database server. */
export interface Connections {
  used: number
  idle: number
  /** Calls that wait for one. */
  waiting: number
  /** Maximum number of connections: `DATABASE_POOL`. */
  limit: number
}

/** Events in the order of their positions. */
export interface EventQuery {
  /** The position after which they begin; 0 is the beginning. */
  after: number
  /** The last position that may be returned, as `eventRange` gave it. */
  upTo: number
  video?: string | undefined
  type?: EventType | undefined
  limit: number
}

/** The positions of the events that the store has; both are 0 while there are none. */
export interface EventRange {
  first: number
  last: number
}

/** The number of videos of one platform in one stage. */
export interface VideoCount {
  platform: string
  stage: Stage
  count: number
}

/** Record of one `Idempotency-Key` and its video. `response` is null until the first request got its response. */
export interface IdempotencyRecord {
  client: string
  key: string
  fingerprint: string
  videoId: string
  response: string | null
  /** Start of the first request, in ms since the epoch; its end once it has its response. */
  createdAt: number
}

/** The key with which a client marks a request, and what identifies the request. */
export type IdempotencyClaim = Pick<IdempotencyRecord, 'client' | 'key' | 'fingerprint'>

/** The row that was added, or the record that already holds the key: then nothing was added. */
export type Inserted = { video: Video; holder?: undefined } | { video?: undefined; holder: IdempotencyRecord }

/** The expectation that something may be left on a platform for a video: see `leftovers.ts`. */
export interface Leftover {
  videoId: string
  /** The epoch of the hold under which it was created. */
  epoch: number
  /** Number of searches so far. */
  looks: number
  /** In ms since the epoch. */
  createdAt: number
}

/** A claimed row as it is now, and when its check was due, in ms since the epoch: null if it was never planned. */
export interface Claimed {
  video: Video
  dueAt: number | null
}

/** Writes in the transaction of a row, which happen only if the row is written. */
export interface Along {
  /** Deletes the expectation of this epoch, or schedules its next search in this number of ms. */
  leftover?: { epoch: number; searchIn: number | null }
  /** Frees the key of the request that created the video, unless it got its response. */
  freesKey?: boolean
}

/**
 * Stores the videos. Between two calls anything may happen, here or in another process, so no code may rely on what
 * an earlier call returned: a row is changed in one transaction, by a function of the row as it is then. A call that
 * failed may still have had its effect.
 *
 * The store has the only clock: every time in it, and the order of ids, goes by that clock, so that processes whose
 * own clocks differ behave the same. Callers pass durations, and functions of the time.
 *
 * All other methods reject with GatewayError `store-unavailable` when the database is unavailable, and with
 * StoreBusyError, which is one, when another process holds it.
 */
export interface VideoStore extends WebhookStore {
  /**
   * Returns the time by the store's clock, in ms since the epoch, for what is shown and for how long to wait. Between
   * two responses of a remote store it is an estimate, by the process's monotonic clock.
   */
  now(): number

  /**
   * Adds a video, and in the same transaction the idempotency record that led to it, and the expectation that something
   * is about to be created for it: due for a search in `searchIn` ms, as by `expectLeftover`.
   */
  insert(video: Video, claim?: IdempotencyClaim, searchIn?: number): Promise<Inserted>

  /**
   * Stores that something is about to be created for a video under the hold with this epoch. Unless it is settled, it
   * is due for a search in `searchIn` ms. A second expectation under the same hold changes only that time.
   */
  expectLeftover(videoId: string, epoch: number, searchIn: number): Promise<void>
  /** Forgets an expectation: the slot is kept, or there is none. */
  settleLeftover(videoId: string, epoch: number): Promise<void>
  /** Takes the expectation that is due the longest, and moves its next search `claim` ms ahead. */
  claimLeftover(claim: number): Promise<Leftover | undefined>
  /** Plans the next search in `searchIn` ms. */
  planLeftover(videoId: string, epoch: number, looks: number, searchIn: number): Promise<void>

  find(id: string): Promise<Video | undefined>

  /** The cost depends on the limit and the number of platforms, not on the number of videos. */
  list(query: VideoQuery): Promise<Video[]>

  /**
   * Compare-and-set: reads the row, applies `change` and writes the result; repeats this after a concurrent change. A
   * caller that has just read the row may pass it instead of the id: unless it has changed since, it is not read again.
   * The event of the change (`events.ts`) is written in the same transaction. `change` must be pure. If it throws, the
   * error is thrown; if it returns its argument, nothing is written. Both happen only for the row as it is in the
   * database. Its `now` is the time by the store's clock, in ms since the epoch.
   * @returns the video as stored, or undefined if the row does not exist
   */
  update(row: string | Video, change: Change, along?: Along): Promise<Video | undefined>

  /**
   * As `update`, without waiting for the disk, unless the change has an event: a power failure may undo it, a crash of the
   * process does not. It is for the time of the next check: every check schedules one, and a flush takes milliseconds.
   */
  plan(row: string | Video, change: Change): Promise<Video | undefined>

  /**
   * Takes hold of up to `limit` rows whose check is due: moves their next check to the end of the claim, so that no other
   * process claims them in the meantime, and they become due again after a crash. Does not wait for the disk, as `plan`.
   *
   * A clock that was changed since `now()` was called makes no row due: `now()` shows the change after this call.
   * @returns the rows as the claim leaves them, the longest due first
   */
  claimDue(query: DueQuery): Promise<Claimed[]>

  /** Time until the earliest check of a video of the platform that is not ready, in ms; negative when it is overdue. */
  nextDueIn(platform: string): Promise<number | undefined>

  /** The number of videos by platform and stage, without zeros. The store keeps these counts: it does not scan rows. */
  counts(): Promise<VideoCount[]>

  findKey(client: string, key: string): Promise<IdempotencyRecord | undefined>
  /** Stores the response to the request that created the video, and the request's final fingerprint. */
  saveResponse(videoId: string, fingerprint: string, response: string): Promise<void>
  /** Frees the key, if any, of the request that created the video, unless it got its response. */
  releaseKey(videoId: string): Promise<void>
  /**
   * Deletes up to `limit` keys whose request ended more than `age` ms ago, or began then and is no longer in progress.
   * Does not wait for the disk, as `plan`.
   * @returns the number of deleted keys
   */
  expireKeys(age: number, limit: number): Promise<number>
  /**
   * Deletes up to `limit` rows of videos that were deleted more than `age` ms ago, except those of
   * which something may remain on a platform. Does not wait for the disk, as `plan`.
   * @returns the number of deleted rows
   */
  expireDeleted(age: number, limit: number): Promise<number>

  /**
   * Returns which events there are. Every event of a change that was made before the call is among them, and none is ever
   * added at or before `last`: a reader that has read up to it can continue after it without missing one.
   */
  eventRange(): Promise<EventRange>
  /** The cost depends on the limit, not on the number of events. */
  events(query: EventQuery): Promise<VideoEvent[]>
  /**
   * Deletes up to `limit` events that are more than `age` ms old, the oldest first, except the last one of all: it keeps
   * the positions growing. Does not wait for the disk, as `plan`.
   * @returns the number of deleted events
   */
  expireEvents(age: number, limit: number): Promise<number>

  /** The connections of now; undefined for a store that needs none. */
  connections(): Connections | undefined
  /** Rejects when the store cannot be read or, after a write failed, when it cannot be written. */
  ping(): Promise<void>
  close(): Promise<void>
}

export type Change = (current: Video, now: number) => Video
