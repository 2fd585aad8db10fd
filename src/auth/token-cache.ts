import * as oauth from 'openid-client'
import { GatewayError } from '../errors.ts'
import { failureOf, refusalOf, retryAfterOf } from '../platform/failures.ts'
import type { Authorization } from '../platform/http.ts'
import type { PlatformTools } from '../platform/tools.ts'
import { traceHeaders } from '../tracing.ts'

/** A token as a platform gave it; `expiresIn` in seconds, undefined when it did not say. */
export interface Token {
  accessToken: string
  expiresIn: number | undefined
  refreshToken?: string | undefined
}

/** Gets a new token; `previous` is there for grants that can refresh. */
export type Grant = (previous: Token | undefined) => Promise<Token>

/** A token is renewed when a tenth of its life, and at most a minute, is left. */
const renewalShare = 0.1
const renewalAtMost = 60_000

/**
 * Keeps one platform's token: one request in flight however many callers ask, renewed in the background shortly
 * before it expires, dropped when the platform refuses it. Its life is measured: a system clock that is set neither
 * prolongs it nor ends it.
 */
export function createTokenCache(platform: string, grant: Grant, tools: PlatformTools): Authorization {
  let held: { token: Token; expiresAt: number; renewAt: number } | undefined
  let inFlight: Promise<Token> | undefined

  async function request(): Promise<Token> {
    try {
      const token = await grant(held?.token)
      const life = (token.expiresIn ?? Number.POSITIVE_INFINITY) * 1000
      const now = performance.now()
      held = {
        token,
        expiresAt: now + life,
        renewAt: now + life - Math.min(life * renewalShare, renewalAtMost),
      }
      tools.observer.tokenRequest(platform, 'ok')
      return token
    } catch (error) {
      tools.observer.tokenRequest(platform, 'failed')
      throw grantFailure(platform, error)
    } finally {
      inFlight = undefined
    }
  }

  return {
    async header() {
      const now = performance.now()
      if (held && now < held.renewAt) return `Bearer ${held.token.accessToken}`
      inFlight ??= request()
      if (!held || now >= held.expiresAt) return `Bearer ${(await inFlight).accessToken}`
      inFlight.catch((error) => tools.log.warn({ platform, err: error }, 'early renewal of the token failed'))
      return `Bearer ${held.token.accessToken}`
    },
    refused(header) {
      // Another caller may have renewed it already: only the refused token is dropped. Its refresh token stays.
      if (held && header === `Bearer ${held.token.accessToken}`) held = { ...held, expiresAt: 0, renewAt: 0 }
      return true
    },
  }
}

/** An Authorization header that never changes: Basic, or a permanent bearer token. */
export function fixedAuthorization(header: string): Authorization {
  return { header: async () => header, refused: () => false }
}

/** The OAuth2 client of a platform whose token endpoint is known, without discovery. */
export function oauthClient(options: {
  tokenEndpoint: string
  clientId: string
  authentication: oauth.ClientAuth
  /** Seconds. */
  timeout: number
}): oauth.Configuration {
  const { origin } = new URL(options.tokenEndpoint)
  const server = { issuer: origin, token_endpoint: options.tokenEndpoint }
  const client = new oauth.Configuration(server, options.clientId, undefined, options.authentication)
  client.timeout = options.timeout
  client[oauth.customFetch] = (url, { headers, ...request }) =>
    fetch(url, { ...request, headers: { ...headers, ...traceHeaders() } } as RequestInit)
  // The base URL is the operator's word; plain http is for doubles and private networks.
  if (origin.startsWith('http:')) oauth.allowInsecureRequests(client)
  return client
}

/** The client credentials grant (RFC 6749 §4.4). */
export function clientCredentials(client: oauth.Configuration): Grant {
  return async () => toToken(await oauth.clientCredentialsGrant(client))
}

export function toToken(response: oauth.TokenEndpointResponse): Token {
  return {
    accessToken: response.access_token,
    expiresIn: response.expires_in,
    refreshToken: response.refresh_token,
  }
}

/** What a failed token request means; nothing of the answer's text is kept, for it may hold secrets. */
function grantFailure(platform: string, error: unknown): GatewayError {
  if (error instanceof GatewayError) return error
  if (error instanceof oauth.ResponseBodyError || error instanceof oauth.WWWAuthenticateChallengeError) {
    const { status, response } = error
    if (status === 408 || status === 429 || status >= 500) {
      return refusalOf(platform, status, Object.fromEntries(response.headers))
    }
    return new GatewayError('platform-unauthorized', `${platform} refused our credentials (${status})`)
  }
  const cause = error instanceof Error ? (error.cause ?? error) : error
  if (cause instanceof Response) {
    const retryAfter = retryAfterOf(Object.fromEntries(cause.headers))
    return refusalOf(
      platform,
      cause.status,
      retryAfter === undefined ? {} : { 'retry-after': String(retryAfter) },
    )
  }
  if ((cause as Error)?.name === 'TimeoutError')
    return new GatewayError('platform-timeout', `${platform} did not give a token in time`)
  if (error instanceof oauth.ClientError)
    return new GatewayError('platform-protocol-error', `${platform} gave a token answer that makes no sense`)
  return failureOf(platform, cause)
}
