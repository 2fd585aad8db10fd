import { Type } from '@sinclair/typebox'
import * as oauth from 'openid-client'
import { GatewayError } from '../../errors.ts'
import { apiUrl, type PlatformHttp } from '../http/http.ts'
import { type Grant, oauthClient, type Token, toToken } from '../http/token-cache.ts'

interface Account {
  baseUrl: string
  username: string
  password: string
  /** For a token request, in ms. */
  timeout: number
}

const LocalClient = Type.Object({
  client_id: Type.String({ minLength: 1 }),
  client_secret: Type.String({ minLength: 1 }),
})

/**
 * PeerTube's login: the instance tells its OAuth2 client to everybody, then the password grant (RFC 6749 §4.3), and
 * the refresh grant (§6) for renewals. A refused renewal leads to a new login; anything else does not, for logins
 * are rate-limited.
 */
export function peertubeLogin(account: Account, http: () => PlatformHttp): Grant {
  const lookUp = () => findClient(account, http())
  let client: ReturnType<typeof lookUp> | undefined

  return async (previous) => {
    client ??= lookUp()
    try {
      return await renewOrLogIn(await client, account, previous)
    } catch (error) {
      // The instance may have been set up anew, with another client.
      client = undefined
      throw error
    }
  }
}

async function renewOrLogIn(
  client: oauth.Configuration,
  account: Account,
  previous: Token | undefined,
): Promise<Token> {
  const refreshToken = previous?.refreshToken
  if (refreshToken !== undefined) {
    try {
      return await grant(client, 'refresh_token', { refresh_token: refreshToken })
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error
    }
  }
  const { username, password } = account
  return grant(client, 'password', { username, password })
}

/** @throws GatewayError when the instance refuses, anything else when it could not be asked */
async function grant(client: oauth.Configuration, type: string, parameters: Record<string, string>) {
  try {
    return toToken(await oauth.genericGrantRequest(client, type, parameters))
  } catch (error) {
    const status = statusOf(error)
    // PeerTube's refusals are problem+json and not the errors of RFC 6749 §5.2.
    if (status !== undefined && [400, 401, 403].includes(status))
      throw new GatewayError('platform-unauthorized', `peertube refused our credentials (${status})`)
    throw error
  }
}

async function findClient({ baseUrl, timeout }: Account, http: PlatformHttp): Promise<oauth.Configuration> {
  // Callers share one login: none of them may abort it.
  const { signal } = new AbortController()
  const { client_id, client_secret } = await http.json(LocalClient, {
    operation: 'token',
    method: 'GET',
    url: '/api/v1/oauth-clients/local',
    authorized: false,
    signal,
  })
  return oauthClient({
    tokenEndpoint: apiUrl(baseUrl, 'api/v1/users/token').href,
    clientId: client_id,
    authentication: oauth.ClientSecretPost(client_secret),
    timeout: timeout / 1000,
  })
}

function statusOf(error: unknown): number | undefined {
  if (error instanceof oauth.ResponseBodyError || error instanceof oauth.WWWAuthenticateChallengeError)
    return error.status
  const cause = error instanceof Error ? error.cause : undefined
  return cause instanceof Response ? cause.status : undefined
}
