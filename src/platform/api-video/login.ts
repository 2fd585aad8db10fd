import { Type } from '@sinclair/typebox'
import { Secret } from '../http/border.ts'
import { isTransient } from '../http/failures.ts'
import type { PlatformHttp } from '../http/http.ts'
import type { Grant } from '../http/token-cache.ts'

const AccessToken = Type.Object({
  access_token: Secret,
  expires_in: Type.Optional(Type.Number()),
  refresh_token: Type.Optional(Secret),
})

/**
 * api.video's own exchange of an API key for a token of one hour, and its renewal
 * (https://docs.api.video/reference/disposable-bearer-token-authentication). A rejected renewal leads to a new
 * exchange. Speaks plain JSON, so it is none of OAuth's grants.
 */
export function apiVideoLogin(apiKey: string, http: () => PlatformHttp): Grant {
  async function exchange(url: string, json: object, signal: AbortSignal) {
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
  return async (previous, signal) => {
    const refreshToken = previous?.refreshToken
    if (refreshToken !== undefined) {
      try {
        return await exchange('/auth/refresh', { refreshToken }, signal)
      } catch (error) {
        if (isTransient(error)) throw error
      }
    }
    // A wrong key is a plain 400 here.
    return exchange('/auth/api-key', { apiKey }, signal)
  }
}
