import { FormatRegistry, type Static, type TSchema, Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { GatewayError } from '../../errors.ts'
import { type ProcessingStatus, VideoMissingError } from '../platform.ts'
import type { Log } from '../tools.ts'

/** The longest URL that is accepted, in characters. Signed ones take up to about 3,000. */
const longestUrl = 4_096
/** The longest message of a platform that is stored and shown, in characters. */
const maxMessageLength = 500
/** Number of unknown states that are logged for each platform. */
const mostUnknownStates = 100
/** Maximum time by which a platform's clock may be ahead, in ms. */
const clockSkewMs = 24 * 3_600_000
/** The latest time that RFC 3339 can express, in milliseconds since the epoch. */
const endOfYear9999 = Date.parse('9999-12-31T23:59:59.999Z')

FormatRegistry.Set('platform-url', isPublicUrl)
FormatRegistry.Set('platform-time', (text) => isTime(text, Date.now() + clockSkewMs))
FormatRegistry.Set('platform-expiry', (text) => isTime(text, endOfYear9999))

/**
 * An id that a platform assigned: 1 to 255 of the characters that a path carries unchanged (RFC 3986 §2.3). An id of
 * dots alone would name another path (§5.2.4), and so would one whose escapes are decoded on the way.
 */
export const Id = Type.String({ pattern: '^(?!\\.+$)[A-Za-z0-9._~-]{1,255}$' })
/** A URL that clients may get: see {@link isPublicUrl}. Whether http is allowed depends on the platform's base URL. */
export const Url = Type.String({ format: 'platform-url' })
/** A value of an enumeration. It is logged when it is unknown. */
export const Word = Type.String({ maxLength: 100 })
/** A token or another secret that fits in a header (RFC 6750 §2.1; common servers accept 8 KiB). */
export const Secret = Type.String({ pattern: '^[\\x21-\\x7e]{1,8192}$' })
/** A date and time that is not in the future, for example in RFC 3339. */
export const Time = Type.String({ format: 'platform-time' })
/** A date and time at which a URL expires; it may be past. */
export const Expiry = Type.String({ format: 'platform-expiry' })
/** The edge of a picture. */
export const Pixels = Type.Integer({ minimum: 1, maximum: 65_535 })
/** The duration of a video: at most ten days. */
export const Seconds = Type.Number({ minimum: 0, maximum: 864_000 })
export const Milliseconds = Type.Number({ minimum: 0, maximum: 864_000_000 })

/** A field that is missing or null until its value is known. */
export const nullish = <T extends TSchema>(schema: T) => Type.Optional(Type.Union([schema, Type.Null()]))

/** Whether a value that was computed, or that may be unknown still, is within the bounds of a schema. */
export function fits<T extends TSchema>(schema: T, value: unknown): value is Static<T> {
  return Value.Check(schema, value)
}

/**
 * Returns an id as one segment of a path. It may come from the database, so it is checked again.
 * @throws VideoMissingError for null; `platform-protocol-error` for an id that could name another path
 */
export function pathSegment(platform: string, id: string | null): string {
  if (id === null) throw new VideoMissingError(platform)
  if (fits(Id, id)) return id
  throw new GatewayError(
    'platform-protocol-error',
    `${platform} returned a video id that does not fit in a path`,
  )
}

/**
 * Rejects a response that is about another video, as from a proxy that mixes up its responses.
 * @param said undefined where the response carries no id
 * @throws GatewayError `platform-protocol-error`
 */
export function requireSame(platform: string, asked: string | null, said: string | null | undefined): void {
  if (said === undefined || said === null || said === asked) return
  throw new GatewayError(
    'platform-protocol-error',
    `${platform} returned another video than the requested one`,
  )
}

/** Whether a text can be part of a URL: 1 to 4,096 characters without white space and control characters. */
export function isUrlText(text: string): boolean {
  return text !== '' && text.length <= longestUrl && !/[\s\p{Cc}\p{Cs}]/u.test(text)
}

/** Whether a text is an absolute http(s) URL without credentials. */
export function isPublicUrl(text: string): boolean {
  if (!isUrlText(text) || !/^https?:\/\/[^/]/i.test(text) || !URL.canParse(text)) return false
  const { username, password, href } = new URL(text)
  return username === '' && password === '' && href.length <= longestUrl
}

function isTime(text: string, latest: number): boolean {
  const time = text.length <= 40 ? Date.parse(text) : Number.NaN
  return time >= 0 && time <= latest
}

/**
 * The status of a video whose processing failed. The platform's reason is cut to 500 characters. What PostgreSQL's
 * `jsonb` rejects (NUL, lone surrogates) and other control characters become U+FFFD.
 */
export function failedBecause(reason: string | null | undefined): ProcessingStatus {
  const cut = (reason ?? '').slice(0, maxMessageLength).replace(/[\t\r\n]+/g, ' ')
  const whole = cut.length < maxMessageLength ? cut : cut.replace(/[\uD800-\uDBFF]$/, '')
  const message = whole.replace(/\p{Cc}|\p{Cs}/gu, '\uFFFD').trim()
  return { state: 'failed', message: message || 'The platform reported no reason.' }
}

/**
 * The status of a video in processing.
 * @param percent how much of it is done, as a number or its digits; anything else is ignored
 */
export function processing(percent: unknown): ProcessingStatus {
  const given = typeof percent === 'number' || (typeof percent === 'string' && percent.trim() !== '')
  const value = given ? Number(percent) : Number.NaN
  return { state: 'processing', ...(value >= 0 && value <= 100 && { progress: Math.round(value) / 100 }) }
}

/** Returns what an unknown state means: `processing`. Each one is logged once, and only the first hundred are. */
export function unknownStates(platform: string, log: Log) {
  const seen = new Set<string | number>()
  return (state: string | number): ProcessingStatus => {
    if (!seen.has(state) && seen.size < mostUnknownStates) {
      seen.add(state)
      log.warn({ platform, state }, 'unknown state; treated as processing')
    }
    return { state: 'processing' }
  }
}
