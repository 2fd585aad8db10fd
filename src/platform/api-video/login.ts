import { Type } from '@sinclair/typebox'
import { GatewayError } from '../../errors.ts'
import { isPassing } from '../http/failures.ts'
import type { PlatformHttp } from '../http/http.ts'
import type { Grant } from '../http/token-cache.ts'
import { VideoMissingError } from '../platform.ts'

const AccessToken = Type.Object({
  access_token: Type.String({ minLength: 1 }),
  expires_in: Type.Optional(Type.Number()),
  refresh_token: Type.Optional(Type.String()),
})

/**
 * api.video's own exchange of an API key for a token of one hour, and its renewal
 * (https://docs.api.video/reference/disposable-bearer-token-authentication). A refused renewal leads to a new
 * exchange. Speaks plain JSON, so it is none of OAuth's grants.
 */
export function apiVideoLogin(apiKey: string, http: () => PlatformHttp): Grant {
  async function exchange(url: string, json: object) {
    // Callers share one token request: none of them may abort it.
    const { signal } = new AbortController()
    const token = await http().json(AccessToken, {
      operation: 'token',
      method: 'POST',
      url,
      json,
      authorized: false,
      signal,
    })
    return {
      accessToken: token.access_token,
      expiresIn: token.expires_in,
      refreshToken: token.refresh_token,
    }
  }
  return async (previous) => {
    const refreshToken = previous?.refreshToken
    if (refreshToken !== undefined) {
      try {
        return await exchange('/auth/refresh', { refreshToken })
      } catch (error) {
        if (isPassing(error)) throw error
      }
    }
    return exchange('/auth/api-key', { apiKey }).catch(refuse)
  }
}

/** A wrong key is a plain 400 here. */
function refuse(error: unknown): never {
  const rejected = error instanceof GatewayError && error.code === 'platform-rejected'
  throw rejected && !(error instanceof VideoMissingError)
    ? new GatewayError('platform-unauthorized', 'api-video refused the API key')
    : error
}
