import { errors } from 'undici'
import { GatewayError } from '../../errors.ts'
import { VideoMissingError } from '../platform.ts'

/**
 * Maximum delay, in seconds, that a platform can request. A longer one is reduced to this: a mistaken `Retry-After` of
 * a day, or a date in 2100, must not keep the gateway away from a platform that has recovered long before. This and
 * {@link maxTokenRetryAfter} are the only caps on the received value; its users have shorter limits of their own.
 */
export const maxRetryAfter = 600

/**
 * The same for a token endpoint, in seconds. Without a token the gateway cannot call the platform, so a mistaken delay
 * would block the whole platform; one token request per minute does no harm.
 */
export const maxTokenRetryAfter = 60

/** The platform returned 401: new credentials may work. */
export class CredentialsRejectedError extends GatewayError {}

/** The gateway had no socket, port or memory for the call, which never reached the platform. Not a platform failure. */
export class OutOfResourcesError extends GatewayError {}

/** Error codes of the system (errno(3)) for this: per process, system-wide, network memory, ephemeral ports. */
const shortages = ['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM', 'EADDRNOTAVAIL']
/** Seconds after which some uploads or calls should have ended. */
const shortageRetryAfter = 5

/**
 * Returns the error for a platform's HTTP status. It does not contain the body, which is the vendor's text.
 * @param resetHeader the platform's own equivalent of `Retry-After` for a 429, in lower case
 * @returns the error to throw; `retryAfter` in seconds if the platform sent one
 */
export function errorForStatus(
  platform: string,
  status: number,
  headers: Record<string, string | string[] | undefined> = {},
  resetHeader = 'retry-after',
): GatewayError {
  const retryAfter = retryAfterOf(headers)
  const hint = retryAfter === undefined ? {} : { retryAfter }
  const detail = `${platform} returned ${status}`
  if (status === 401) return new CredentialsRejectedError('platform-unauthorized', detail)
  if (status === 403) return new GatewayError('platform-unauthorized', detail)
  // A proxy in between requires credentials (RFC 9110 §15.5.8). The platform did nothing, and the client cannot help.
  if (status === 407)
    return new GatewayError(
      'platform-unauthorized',
      `a proxy in front of ${platform} requires credentials (407)`,
    )
  if (status === 404 || status === 410) {
    if (isApiResponse(headers)) return new VideoMissingError(platform)
    return new GatewayError('platform-protocol-error', `${detail} with a page that is not from its API`)
  }
  if (status === 408) return new GatewayError('platform-timeout', detail)
  if (status === 429) {
    const reset = retryAfterOf({ 'retry-after': headers[resetHeader] })
    return new GatewayError('platform-throttled', detail, { retryAfter: retryAfter ?? reset ?? 1 })
  }
  if (status >= 500) return new GatewayError('platform-unavailable', detail, hint)
  if (status >= 400) return new GatewayError('platform-rejected', detail)
  return new GatewayError('platform-protocol-error', detail)
}

/** Whether a 404 is from the API: every vendor's API sends JSON, unlike a proxy or a page during a deployment. */
function isApiResponse({ 'content-type': type }: Record<string, string | string[] | undefined>): boolean {
  return type === undefined || /\bjson\b/i.test(String(type))
}

/** Converts any exception of a call (sockets, DNS, timeouts, undici) to a GatewayError. */
export function errorForException(platform: string, error: unknown): GatewayError {
  if (error instanceof GatewayError) return error
  const cause = error instanceof Error ? error : new Error(String(error))
  if (isShortage(cause)) {
    const detail = `The gateway has no free socket or memory to call ${platform}. Retry when Retry-After has passed.`
    return new OutOfResourcesError('platform-unavailable', detail, { retryAfter: shortageRetryAfter, cause })
  }
  const late = [errors.ConnectTimeoutError, errors.HeadersTimeoutError, errors.BodyTimeoutError]
  if (late.some((type) => cause instanceof type) || cause.name === 'TimeoutError')
    return new GatewayError('platform-timeout', `${platform} did not respond in time`, { cause })
  const broken = [errors.ResponseExceededMaxSizeError, errors.HeadersOverflowError]
  if (broken.some((type) => cause instanceof type) || cause.name === 'HTTPParserError')
    return malformedResponse(platform, cause)
  return new GatewayError('platform-unavailable', `${platform} cannot be reached`, { cause })
}

/**
 * The same for an exception before the headers of the response had arrived. If the parser rejects them, undici
 * reports a wrong length (both lengths, several of them), a failed assertion (status 000), or a bad upgrade (101).
 * After the headers, a wrong length means that the connection was interrupted.
 */
export function errorForHeaders(platform: string, error: unknown): GatewayError {
  const rejected =
    error instanceof errors.ResponseContentLengthMismatchError ||
    (error instanceof Error && 'code' in error && error.code === 'ERR_ASSERTION') ||
    (error instanceof errors.SocketError && /^bad /.test(error.message))
  return rejected ? malformedResponse(platform, error as Error) : errorForException(platform, error)
}

function malformedResponse(platform: string, cause: Error): GatewayError {
  return new GatewayError('platform-protocol-error', `${platform} returned malformed HTTP`, { cause })
}

/** A host with several addresses fails with one error each: a shortage only if every one of them is. */
function isShortage(error: Error): boolean {
  if (error instanceof AggregateError) return error.errors.length > 0 && error.errors.every(isShortage)
  return 'code' in error && shortages.includes(String(error.code))
}

/** Whether a failure means that the platform is unavailable: such failures open its circuit. */
export function isUnavailable(error: unknown): boolean {
  return meansUnavailable(error) && !(error instanceof OutOfResourcesError)
}

/** Whether a failure is a response of the platform, which is therefore available. */
export function isPlatformResponse(error: unknown): boolean {
  return error instanceof GatewayError && error.code.startsWith('platform-') && !meansUnavailable(error)
}

/** Whether a failure is transient. */
export function isTransient(error: unknown): boolean {
  return meansUnavailable(error) || isThrottled(error)
}

function meansUnavailable(error: unknown): boolean {
  return (
    error instanceof GatewayError &&
    (error.code === 'platform-unavailable' || error.code === 'platform-timeout')
  )
}

/** Whether the platform only counted the request and did not perform it (429, RFC 6585 §4). */
export function isThrottled(error: unknown): boolean {
  return error instanceof GatewayError && error.code === 'platform-throttled'
}

/**
 * Returns `Retry-After` in seconds, from either of its forms (RFC 9110 §10.2.3), at most {@link maxRetryAfter}. Vendors
 * also send fractions. A value that is neither a number nor a date, or a repeated field, counts as absent.
 */
export function retryAfterOf(headers: Record<string, string | string[] | undefined>): number | undefined {
  const value = headers['retry-after']
  if (typeof value !== 'string') return undefined
  const seconds = /^\d+(\.\d+)?$/.test(value) ? Number(value) : secondsUntil(value)
  return seconds === undefined ? undefined : Math.min(Math.max(0, Math.ceil(seconds)), maxRetryAfter)
}

/** Every HTTP-date begins with the name of a day (§5.6.7); without that `Date.parse` makes dates of `-5` and `1, 2`. */
function secondsUntil(value: string): number | undefined {
  const date = /^(Mon|Tue|Wed|Thu|Fri|Sat|Sun)/.test(value) ? Date.parse(value) : Number.NaN
  return Number.isNaN(date) ? undefined : (date - Date.now()) / 1000
}
