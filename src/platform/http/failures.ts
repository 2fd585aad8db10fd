import { errors } from 'undici'
import { GatewayError } from '../../errors.ts'
import { VideoMissingError } from '../platform.ts'

/** The platform answered 401: other credentials may do. */
export class CredentialsRefusedError extends GatewayError {}

/**
 * What a platform's HTTP status means to our caller. Says nothing of the body: that is the vendor's text.
 * @returns the error to throw; `retryAfter` in seconds when the platform gave one
 */
export function refusalOf(
  platform: string,
  status: number,
  headers: Record<string, string | string[] | undefined> = {},
): GatewayError {
  const retryAfter = retryAfterOf(headers)
  const hint = retryAfter === undefined ? {} : { retryAfter }
  const said = `${platform} answered ${status}`
  if (status === 401) return new CredentialsRefusedError('platform-unauthorized', said)
  if (status === 403) return new GatewayError('platform-unauthorized', said)
  if (status === 404 || status === 410) return new VideoMissingError(platform)
  if (status === 408) return new GatewayError('platform-timeout', said)
  if (status === 429) {
    // api.video tells it in a header of its own (https://docs.api.video/reference/too-many-requests).
    const reset = retryAfterOf({ 'retry-after': headers['x-ratelimit-retry-after'] })
    return new GatewayError('platform-throttled', said, { retryAfter: retryAfter ?? reset ?? 1 })
  }
  if (status >= 500) return new GatewayError('platform-unavailable', said, hint)
  if (status >= 400) return new GatewayError('platform-rejected', said)
  return new GatewayError('platform-protocol-error', said)
}

/** Turns whatever a call threw (sockets, DNS, timeouts, undici's own) into an error of ours. */
export function failureOf(platform: string, error: unknown): GatewayError {
  if (error instanceof GatewayError) return error
  const cause = error instanceof Error ? error : new Error(String(error))
  const late = [errors.ConnectTimeoutError, errors.HeadersTimeoutError, errors.BodyTimeoutError]
  if (late.some((type) => cause instanceof type) || cause.name === 'TimeoutError')
    return new GatewayError('platform-timeout', `${platform} did not answer in time`, { cause })
  if (cause instanceof errors.ResponseExceededMaxSizeError || cause.name === 'HTTPParserError')
    return new GatewayError('platform-protocol-error', `${platform} gave an answer that is no proper HTTP`, {
      cause,
    })
  return new GatewayError('platform-unavailable', `${platform} is out of reach`, { cause })
}

/** True for failures that say the platform is down: they open its circuit. */
export function isDown(error: unknown): boolean {
  return (
    error instanceof GatewayError &&
    (error.code === 'platform-unavailable' || error.code === 'platform-timeout')
  )
}

/** True for failures that the platform answered with: it is there. */
export function isAnswer(error: unknown): boolean {
  return error instanceof GatewayError && error.code.startsWith('platform-') && !isDown(error)
}

/** True for failures that may be gone a moment later. */
export function isPassing(error: unknown): boolean {
  return isDown(error) || isThrottled(error)
}

/** True when the platform counted the request and did nothing else with it (429, RFC 6585 §4). */
export function isThrottled(error: unknown): boolean {
  return error instanceof GatewayError && error.code === 'platform-throttled'
}

/** `Retry-After` in seconds, from either of its forms (RFC 9110 §10.2.3). */
export function retryAfterOf(headers: Record<string, string | string[] | undefined>): number | undefined {
  const value = headers['retry-after']
  if (typeof value !== 'string') return undefined
  if (/^\d+$/.test(value)) return Number(value)
  const date = Date.parse(value)
  return Number.isNaN(date) ? undefined : Math.max(0, Math.ceil((date - Date.now()) / 1000))
}
