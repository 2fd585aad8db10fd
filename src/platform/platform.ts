import type { Readable } from 'node:stream'
import { GatewayError } from '../errors.ts'

/** Title and description of a new video. `id` is the gateway's own id, for platforms that can store it. */
export interface VideoDraft {
  id: string
  title: string
  description: string | null
  reference: string | null
}

/**
 * The place of a video on a platform, as the adapter knows it.
 * `videoId` is the platform's identifier, null until the platform gave one.
 * `handle` is the adapter's own note (an upload URL, a second id); no other code reads it.
 */
export interface Slot {
  videoId: string | null
  handle: string | null
}

/** The bytes of an mp4. Sizes in bytes. */
export interface Content {
  stream: Readable
  /** Null when it cannot be known before the end. */
  size: number | null
  /** An upper bound, a few bytes above the size, where `size` is null but nearly known. */
  maxSize?: number | undefined
  /** Suspends the idle timeout until the stream is read again, during work that has a time limit of its own. */
  hold(): void
}

/** Options of every call to an adapter. */
export interface Call {
  /** Aborts the call; its reason is what the caller gets. */
  signal: AbortSignal
  /**
   * Stores that something is about to be created on the platform, other than by `provision` as a whole. Should its slot
   * never be kept, the gateway searches for it with `find` and deletes it. Wait for it before the creation.
   */
  creating(): Promise<void>
  /**
   * Stores a changed slot. Wait for it before the next step, so that a crash cannot lose the slot.
   * @throws GatewayError when other work has taken over the video; the created slot is then searched for and deleted
   */
  keep(slot: Slot): Promise<void>
}

/**
 * `awaiting-upload` also means that the platform received the content only in part.
 * `progress` of the processing is 0 to 1, if the platform reports it.
 * `message` has at most 500 characters, none of them a control character.
 */
export type ProcessingStatus =
  | { state: 'awaiting-upload' | 'ready' }
  | { state: 'processing'; progress?: number }
  | { state: 'failed'; message: string }

/** Metadata with a URL that the platform may sign for a limited time. */
interface Perishable {
  /** When the URL stops working, in ms since the epoch; absent if the platform does not state it. Not in the API. */
  validUntil?: number
}

/**
 * Sizes in pixels (1 to 65,535), duration in seconds (at most ten days). `launchUrl` is absolute, http(s), without
 * credentials.
 */
export interface VideoInfo extends Perishable {
  launchUrl: string
  mimeType: 'video/mp4' | 'application/vnd.apple.mpegurl'
  width: number
  height: number
  duration: number
}

/** Sizes in pixels (1 to 65,535). `url` is absolute, http(s), without credentials. */
export interface Thumbnail extends Perishable {
  url: string
  mimeType: 'image/jpeg' | 'image/png'
  width: number
  height: number
}

/** A request to the webhook of a platform: it is not trusted before its signature is verified. */
export interface Notification {
  /** The values of a header field, one per field line. @param name in lower case */
  header(name: string): string[]
  /** The bytes as they arrived: the signature is over them. */
  body: Buffer
}

/** Reads the webhooks of a platform, which report that a video may have changed. */
export interface HintReader {
  /** The variable with the secret of the signature. */
  readonly variable: string
  /** Whether the variable is set: without it no webhook is accepted. */
  readonly configured: boolean
  /**
   * Verifies the signature over the raw body in constant time, and that it is not older than a few minutes.
   * @returns the gateway's ids of the videos concerned. They may be ids of no video, or of another gateway's
   * @throws GatewayError `invalid-signature`; its cause is for the log. `invalid-request` for a signed body that is not
   * JSON
   */
  read(notification: Notification, signal: AbortSignal): Promise<string[]>
}

/**
 * The one contract between the gateway and any video platform.
 * Every method may throw a GatewayError with one of the `platform-…` codes, and {@link VideoMissingError}.
 * A response that is out of the bounds of `http/border.ts`, or about another video, is `platform-protocol-error`.
 */
export interface VideoPlatform {
  readonly name: string
  /** The account that the adapter uses, without secrets. The gateway does not touch videos of another account. */
  readonly account: string
  /** Pauses between the searches for a creation whose response was lost, in ms. */
  readonly settles: readonly number[]
  /** True when `upload` requires `content.size`. */
  readonly lengthRequired: boolean

  /** Reads the platform's webhooks; absent where it has none. */
  readonly hints?: HintReader

  /** If a length is required: whether `content.maxSize` is enough, for content of about this size. By default it is not. */
  acceptsMaxSize?(maxSize: number): boolean

  /** Creates the slot. An adapter whose platform creates it at the upload returns two nulls. */
  provision(draft: VideoDraft, call: Call): Promise<Slot>

  /** Finds every slot with the draft's id, if the platform's API can. */
  find?(draft: VideoDraft, call: Call): Promise<Slot[]>

  /** Whether both are the same slot; by default those with the same `videoId` are. */
  isSame?(one: Slot, other: Slot): boolean

  /**
   * Streams the content into the slot and resolves when the platform has accepted all of it.
   * A slot whose earlier upload was interrupted accepts this one. Destroys `content.stream` when it fails.
   */
  upload(slot: Slot, draft: VideoDraft, content: Content, call: Call): Promise<void>

  /** Returns the state that the platform reports for the video. */
  status(slot: Slot, call: Call): Promise<ProcessingStatus>

  /** Called only after `status` returned ready, then repeatedly: URLs change, and the latest response counts. */
  info(slot: Slot, call: Call): Promise<VideoInfo>

  /** Called like `info`. */
  thumbnail(slot: Slot, call: Call): Promise<Thumbnail>

  /** Deletes the content of the slot, including an upload in progress. An empty slot is fine. */
  remove(slot: Slot, call: Call): Promise<void>

  /**
   * Makes one cheap authorized call that changes nothing.
   * @throws GatewayError `platform-unauthorized` when the platform rejects the configured credentials
   */
  checkCredentials(signal: AbortSignal): Promise<void>

  /** Closes the sockets. */
  close(): Promise<void>
}

/** The platform does not have the video, or no longer. */
export class VideoMissingError extends GatewayError {
  constructor(platform: string) {
    super(
      'platform-rejected',
      `${platform} does not have this video. If the error persists, delete the video here and create a new one.`,
    )
  }
}

/** For `catch`: returns undefined if the platform does not have the video, or a part of it. @throws other errors */
export function ignoreMissing(error: unknown): undefined {
  if (!(error instanceof VideoMissingError)) throw error
}

/**
 * Whether a failure means that the platform rejected the request and did nothing. After any other failure its effect is
 * unknown: the response was late, was lost, was unexpected, or could not be stored here.
 */
export function isRefusal(error: unknown): boolean {
  return error instanceof GatewayError && refusals.includes(error.code)
}

const refusals = ['platform-rejected', 'platform-unauthorized', 'platform-throttled', 'length-required']

/** The platform's circuit is open: nothing was sent. `retryAfter` is its whole pause. */
export class CircuitOpenError extends GatewayError {}
