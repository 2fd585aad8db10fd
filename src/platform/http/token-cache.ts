import { GatewayError } from '../../errors.ts'
import { CircuitOpenError, VideoMissingError } from '../platform.ts'
import type { PlatformTools } from '../tools.ts'
import { fits, Secret } from './border.ts'
import { withDeadline } from './deadline.ts'
import { errorForException, maxTokenRetryAfter, OutOfResourcesError } from './failures.ts'
import type { Authorization } from './http.ts'

/** A token as a platform gave it; `expiresIn` in seconds, undefined when it did not say. */
export interface Token {
  accessToken: string
  expiresIn: number | undefined
  refreshToken?: string | undefined
}

/** Gets a new token before the signal aborts; `previous` is there for grants that can refresh. */
export type Grant = (previous: Token | undefined, signal: AbortSignal) => Promise<Token>

/**
 * How long a token is used, whatever the platform states: an `expires_in` of 0 must not cost a token request per call,
 * and an absurd or missing one must not keep a token for ever. Milliseconds.
 */
const minLifetimeMs = 2_000
const maxLifetimeMs = 86_400_000
/** A token is renewed when a tenth of its life, and at most a minute, is left. Milliseconds, as all below. */
const renewalShare = 0.1
const renewalAtMost = 60_000
/** After an early renewal failed; the old token is still good. */
const renewalRetryMs = 5_000
const minPauseMs = 1_000
const maxPauseMs = 30_000
/** So many refused tokens in a row are replaced at once: they may have been revoked, one after the other. */
const immediateReplacements = 3

/** After the first time 1 s, then 2 s, 4 s, 8 s …; none before. */
const pauseAfter = (times: number) => (times < 1 ? 0 : Math.min(minPauseMs * 2 ** (times - 1), maxPauseMs))

/**
 * Keeps one platform's token: one request in flight however many callers ask, renewed in the background shortly
 * before it expires, dropped when the platform refuses it. Whatever goes wrong, requests are paced (token endpoints
 * limit them): after a failed one callers get its error at once, with `retryAfter`, until the next is due; and where
 * new tokens are refused too, the newest stays for a while. Its life is measured: a system clock that is set neither
 * prolongs it nor ends it.
 */
export function createTokenCache(platform: string, grant: Grant, tools: PlatformTools): Authorization {
  let held: { token: Token; expiresAt: number; renewAt: number } | undefined
  let inFlight: Promise<Token> | undefined
  /** What the last request failed with, and when the next may begin. */
  let failed: { error: GatewayError; consecutive: number; until: number } | undefined
  /** How many tokens were dropped in a row, and when the next may be. */
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
    const left = held ? held.expiresAt - now : 0
    const early = left > 0
    if (early) tools.log.warn({ platform, err: error }, 'could not renew the platform token early')
    const consecutive = early ? 0 : (failed?.consecutive ?? 0) + 1
    const pause = early ? Math.min(left, renewalRetryMs) : pauseAfter(consecutive)
    failed = { error, consecutive, until: now + Math.max(pause, (error.retryAfter ?? 0) * 1000) }
  }

  return {
    async header() {
      const now = performance.now()
      const good = held && now < held.expiresAt ? held : undefined
      const due = !good || now >= good.renewAt
      if (due && !(failed && now < failed.until)) inFlight ??= request()
      if (good) {
        // Nobody waits for an early renewal, so nobody hears of its failure.
        inFlight?.catch(() => {})
        return bearer(good.token)
      }
      if (inFlight) return bearer(await inFlight)
      const { error, until } = failed!
      const retryAfter = Math.ceil((until - now) / 1000)
      throw new GatewayError(error.code, error.message, { retryAfter, cause: error })
    },

    invalidate(header) {
      // Another caller may have dropped or renewed it already: only the token in use is dropped.
      if (!held || header !== bearer(held.token) || held.expiresAt === 0) return true
      const now = performance.now()
      if (now < dropped.until) return false
      const consecutive = now > dropped.until + maxPauseMs ? 1 : dropped.consecutive + 1
      dropped = { consecutive, until: now + pauseAfter(consecutive + 1 - immediateReplacements) }
      // An early renewal that failed had time; this one has none, unless the platform asked for it.
      if (failed?.consecutive === 0 && failed.error.retryAfter === undefined) failed = undefined
      // Its refresh token stays.
      held = { ...held, expiresAt: 0, renewAt: 0 }
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

/** How long a token is used, in ms. */
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

/** What a failed token request means; nothing of the response's text is kept, for it may hold secrets. */
function grantFailure(platform: string, error: unknown): GatewayError {
  const failure = errorForException(platform, error)
  // That there is no token endpoint says nothing of the video that the token was for.
  if (failure instanceof VideoMissingError)
    return new GatewayError(
      'platform-protocol-error',
      `${platform} has no token endpoint at the configured URL`,
    )
  // A refused token request concerns the gateway's credentials (RFC 6749 §5.2), not what the client sent.
  if (failure.code === 'platform-rejected') {
    const detail = `${platform} rejected the gateway's credentials`
    return new GatewayError('platform-unauthorized', detail, { cause: failure })
  }
  if (failure.retryAfter === undefined || failure.retryAfter <= maxTokenRetryAfter) return failure
  return new GatewayError(failure.code, failure.message, { retryAfter: maxTokenRetryAfter, cause: failure })
}
