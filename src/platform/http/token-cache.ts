import { GatewayError } from '../../errors.ts'
import { CircuitOpenError, VideoMissingError } from '../platform.ts'
import type { PlatformTools } from '../tools.ts'
import { fits, Secret } from './border.ts'
import { withDeadline } from './deadline.ts'
import { errorForException, maxTokenRetryAfter, OutOfResourcesError } from './failures.ts'
import type { Authorization } from './http.ts'

/** A token as a platform issued it; `expiresIn` in seconds, undefined if the response has none. */
export interface Token {
  accessToken: string
  expiresIn: number | undefined
  refreshToken?: string | undefined
}

/** Gets a new token before the signal aborts; grants that can refresh use `previous`. */
export type Grant = (previous: Token | undefined, signal: AbortSignal) => Promise<Token>

/**
 * Bounds of the time for which a token is used. An `expires_in` of 0 must not cause a token request per call, and a
 * huge or missing one must not keep a token forever. Milliseconds.
 */
const minLifetimeMs = 2_000
const maxLifetimeMs = 86_400_000
/** A token is renewed when a tenth of its lifetime, but at most a minute, is left. Milliseconds, as all below. */
const renewalShare = 0.1
const renewalAtMost = 60_000
/** Pause after a failed early renewal; the old token is still valid. */
const renewalRetryMs = 5_000
const maxPauseMs = 30_000
/** Pauses after the first failed request, the second and so on; the last one follows all further ones. */
const failurePausesMs = [1_000, 2_000, 4_000, 8_000, 16_000, maxPauseMs]
/** The same for tokens that the platform rejects in a row. The first ones may have been revoked: no pause. */
const rejectionPausesMs = [0, 0, ...failurePausesMs]

const pauseAfter = (times: number, pauses: readonly number[]) =>
  pauses[Math.min(times, pauses.length) - 1] as number

/**
 * Keeps one platform's token. At most one token request is in flight for all callers. The token is renewed in the
 * background shortly before it expires, and dropped when the platform rejects it. Token endpoints limit requests, so
 * the cache backs off: after a failed request callers immediately get its error, with `retryAfter`, until the next
 * request is due; if the platform rejects new tokens too, the newest one is kept for a while. Lifetimes use the
 * monotonic clock, so changes of the wall clock have no effect.
 */
export function createTokenCache(platform: string, grant: Grant, tools: PlatformTools): Authorization {
  /** A rejected token still has its refresh token. */
  let held: { token: Token; expiresAt: number; renewAt: number; rejected: boolean } | undefined
  let inFlight: Promise<Token> | undefined
  /** Error of the last request, and the time of the next one. */
  let failed: { error: GatewayError; consecutive: number; until: number } | undefined
  /** Number of tokens dropped in a row, and the earliest time of the next drop. */
  let dropped = { consecutive: 0, until: Number.NEGATIVE_INFINITY }

  async function request(): Promise<Token> {
    try {
      // The deadline is that of a call, because callers wait for it.
      const token = await withDeadline(platform, tools.timeouts.whole, undefined, (signal) =>
        grant(held?.token, signal),
      )
      checkToken(platform, token)
      const life = lifetimeOf(token)
      const now = performance.now()
      held = {
        token,
        expiresAt: now + life,
        renewAt: now + life - Math.min(life * renewalShare, renewalAtMost),
        rejected: false,
      }
      failed = undefined
      tools.observer.tokenRequest(platform, 'ok')
      return token
    } catch (cause) {
      // No request was sent, so there is nothing to pace.
      if (cause instanceof CircuitOpenError || cause instanceof OutOfResourcesError) throw cause
      const error = grantFailure(platform, cause)
      tools.observer.tokenRequest(platform, 'failed')
      noteFailure(error)
      throw error
    } finally {
      inFlight = undefined
    }
  }

  function noteFailure(error: GatewayError) {
    const now = performance.now()
    const left = held && !held.rejected ? held.expiresAt - now : 0
    const early = left > 0
    if (early) tools.log.warn({ platform, err: error }, 'could not renew the platform token early')
    const consecutive = early ? 0 : (failed?.consecutive ?? 0) + 1
    const pause = early ? Math.min(left, renewalRetryMs) : pauseAfter(consecutive, failurePausesMs)
    failed = { error, consecutive, until: now + Math.max(pause, (error.retryAfter ?? 0) * 1000) }
  }

  return {
    async header() {
      const now = performance.now()
      const good = held && !held.rejected && now < held.expiresAt ? held : undefined
      const due = !good || now >= good.renewAt
      if (due && !(failed && now < failed.until)) inFlight ??= request()
      if (good) {
        // No caller waits for an early renewal, so its failure must not be unhandled.
        inFlight?.catch(() => {})
        return bearer(good.token)
      }
      if (inFlight) return bearer(await inFlight)
      const { error, until } = failed!
      const retryAfter = Math.ceil((until - now) / 1000)
      throw new GatewayError(error.code, error.message, { retryAfter, cause: error })
    },

    invalidate(header) {
      // Another caller may already have dropped or renewed the token: only the one in use is dropped.
      if (!held || header !== bearer(held.token) || held.rejected) return true
      const now = performance.now()
      if (now < dropped.until) return false
      const consecutive = now > dropped.until + maxPauseMs ? 1 : dropped.consecutive + 1
      dropped = { consecutive, until: now + pauseAfter(consecutive, rejectionPausesMs) }
      // The pause after a failed early renewal does not apply now, unless the platform requested it.
      if (failed?.consecutive === 0 && failed.error.retryAfter === undefined) failed = undefined
      held = { ...held, rejected: true }
      return true
    },
  }
}

function bearer(token: Token): string {
  return `Bearer ${token.accessToken}`
}

/** An Authorization header that never changes: Basic, or a permanent bearer token. */
export function fixedAuthorization(header: string): Authorization {
  return { header: async () => header, invalidate: () => false }
}

/** Returns the time for which a token is used, in ms. */
function lifetimeOf({ expiresIn = Number.POSITIVE_INFINITY }: Token): number {
  return Math.min(Math.max(expiresIn * 1000, minLifetimeMs), maxLifetimeMs)
}

function checkToken(platform: string, { accessToken }: Token): void {
  if (!fits(Secret, accessToken))
    throw new GatewayError(
      'platform-protocol-error',
      `${platform} returned a token that does not fit in a header`,
    )
}

/** Returns the error for a failed token request, without any text of the response, which may contain secrets. */
function grantFailure(platform: string, error: unknown): GatewayError {
  const failure = errorForException(platform, error)
  // A missing token endpoint says nothing about the video.
  if (failure instanceof VideoMissingError)
    return new GatewayError(
      'platform-protocol-error',
      `${platform} has no token endpoint at the configured URL`,
    )
  // A rejected token request concerns the gateway's credentials (RFC 6749 §5.2), not what the client sent.
  if (failure.code === 'platform-rejected') {
    const detail = `${platform} rejected the gateway's credentials`
    return new GatewayError('platform-unauthorized', detail, { cause: failure })
  }
  if (failure.retryAfter === undefined || failure.retryAfter <= maxTokenRetryAfter) return failure
  return new GatewayError(failure.code, failure.message, { retryAfter: maxTokenRetryAfter, cause: failure })
}
