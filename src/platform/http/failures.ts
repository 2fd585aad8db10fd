import { errors } from 'undici'
import { GatewayError } from '../../errors.ts'
import { VideoMissingError } from '../platform.ts'

/**
 * The longest delay, in seconds, that a platform may ask for. A longer one counts as this: a mistaken `Retry-After` of
 * a day, or a date in 2100, must not keep the gateway from a platform that is well a moment later. This and
 * {@link maxTokenRetryAfter} are the only caps on what enters; users of the value have shorter patience of their own.
 */
export const maxRetryAfter = 600

/**
 * The same for a token endpoint, in seconds. Without a token no call of the platform goes out, so a mistaken delay there
 * costs the whole platform; a single token request per minute harms nobody.
 */
export const maxTokenRetryAfter = 60

/** The platform answered 401: other credentials may do. */
export class CredentialsRejectedError extends GatewayError {}

/** The gateway had no socket, port or memory for the call: it never reached the platform, whose fault it is not. */
export class OutOfResourcesError extends GatewayError {}

/** What the system says then (errno(3)): per process, system-wide, of the network, of ephemeral ports. */
const shortages = ['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM', 'EADDRNOTAVAIL']
/** Seconds, in which some uploads or calls have ended. */
const shortageRetryAfter = 5

/**
 * What a platform's HTTP status means to our caller. Says nothing of the body: that is the vendor's text.
 * @param resetHeader the platform's own header for what `Retry-After` says of a 429, in lower case
 * @returns the error to throw; `retryAfter` in seconds when the platform gave one
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
  // A proxy on the way wants credentials (RFC 9110 §15.5.8). The client can do nothing about it, and nothing was done.
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

/** Every vendor's API says in JSON that something is missing; a proxy, or a page during a deployment, does not. */
function isApiResponse({ 'content-type': type }: Record<string, string | string[] | undefined>): boolean {
  return type === undefined || /\bjson\b/i.test(String(type))
}

/** Turns whatever a call threw (sockets, DNS, timeouts, undici's own) into an error of ours. */
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
 * The same for what a call threw before the headers of its response were there. If the parser rejects them, undici
 * reports a wrong length (both lengths, several of them), a failed assertion (status 000), or a bad upgrade (101).
 * Later on, a wrong length says that the connection was cut.
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

/** A host with several addresses fails with one error each; one that the platform is to blame for is enough. */
function isShortage(error: Error): boolean {
  if (error instanceof AggregateError) return error.errors.length > 0 && error.errors.every(isShortage)
  return 'code' in error && shortages.includes(String(error.code))
}

/** True for failures that say the platform is down: they open its circuit. */
export function isUnavailable(error: unknown): boolean {
  return saysDown(error) && !(error instanceof OutOfResourcesError)
}

/** True for failures that the platform answered with: it is there. */
export function isPlatformResponse(error: unknown): boolean {
  return error instanceof GatewayError && error.code.startsWith('platform-') && !saysDown(error)
}

/** True for failures that may be gone a moment later. */
export function isTransient(error: unknown): boolean {
  return saysDown(error) || isThrottled(error)
}

function saysDown(error: unknown): boolean {
  return (
    error instanceof GatewayError &&
    (error.code === 'platform-unavailable' || error.code === 'platform-timeout')
  )
}

/** True when the platform counted the request and did nothing else with it (429, RFC 6585 §4). */
export function isThrottled(error: unknown): boolean {
  return error instanceof GatewayError && error.code === 'platform-throttled'
}

/**
 * `Retry-After` in seconds, from either of its forms (RFC 9110 §10.2.3), at most {@link maxRetryAfter}. Vendors also
 * send fractions. What is neither a number nor a date, and a field that comes twice, counts as absent.
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
