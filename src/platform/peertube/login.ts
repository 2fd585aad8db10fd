import { type Static, Type } from '@sinclair/typebox'
import { ClientSecretPost } from 'openid-client'
import { GatewayError } from '../../errors.ts'
import { Secret } from '../http/border.ts'
import { apiUrl, type PlatformHttp } from '../http/http.ts'
import { requestToken } from '../http/oauth.ts'
import type { Grant } from '../http/token-cache.ts'
import { VideoMissingError } from '../platform.ts'

interface Account {
  baseUrl: string
  username: string
  password: string
}

const LocalClient = Type.Object({
  client_id: Secret,
  client_secret: Secret,
})

/**
 * Logs in to PeerTube: reads the instance's public OAuth2 client, then uses the password grant (RFC 6749 §4.3), and the
 * refresh grant (§6) for renewals. Only a rejected renewal leads to a new login, because logins are rate-limited.
 */
export function peertubeLogin(account: Account, http: () => PlatformHttp): Grant {
  let local: Static<typeof LocalClient> | undefined

  return async (previous, signal) => {
    try {
      local ??= await findClient(http(), signal)
      const client = {
        http: http(),
        tokenEndpoint: apiUrl(account.baseUrl, 'api/v1/users/token').href,
        clientId: local.client_id,
        authentication: ClientSecretPost(local.client_secret),
      }
      const refreshToken = previous?.refreshToken
      if (refreshToken !== undefined) {
        try {
          return await requestToken(client, 'refresh_token', { refresh_token: refreshToken }, signal)
        } catch (error) {
          if (!isRefusal(error)) throw error
        }
      }
      const { username, password } = account
      return await requestToken(client, 'password', { username, password }, signal)
    } catch (error) {
      // The instance may have been reinstalled, with another client.
      local = undefined
      throw error
    }
  }
}

function findClient(http: PlatformHttp, signal: AbortSignal): Promise<Static<typeof LocalClient>> {
  return http.json(LocalClient, {
    operation: 'token',
    method: 'GET',
    url: '/api/v1/oauth-clients/local',
    authorized: false,
    signal,
  })
}

/** PeerTube rejects with 400, 401 and 403, as problem+json instead of the form of RFC 6749 §5.2. */
function isRefusal(error: unknown): boolean {
  return (
    error instanceof GatewayError &&
    !(error instanceof VideoMissingError) &&
    ['platform-rejected', 'platform-unauthorized'].includes(error.code)
  )
}
