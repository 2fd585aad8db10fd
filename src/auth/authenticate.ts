import * as jose from 'jose'
import { GatewayError } from '../errors.ts'
import { invalidToken, type TokenIssuer } from './access-tokens.ts'
import { type Credential, findBySecret, type Principal } from './credentials.ts'
import type { ExternalIssuer } from './external-issuer.ts'

export interface AuthenticatorOptions {
  apiKeys: Credential[]
  issuer: TokenIssuer
  external?: ExternalIssuer | undefined
}

/** Takes the value of the Authorization header; throws GatewayError `unauthorized`. */
export type Authenticate = (authorization: string | undefined) => Promise<Principal>

/** Accepts an API key, an access token of the gateway, or one of the external issuer. */
export function createAuthenticator({ apiKeys, issuer, external }: AuthenticatorOptions): Authenticate {
  return async (authorization) => {
    const token = bearerToken(authorization)
    return token.split('.').length === 3 ? byAccessToken(token) : byApiKey(token)
  }

  async function byAccessToken(token: string): Promise<Principal> {
    const iss = unverifiedIssuer(token)
    if (external?.issues(iss)) return external.verify(token)
    if (iss === issuer.issuerUrl()) return issuer.verify(token)
    throw invalidToken(`its issuer ${iss.slice(0, 100)} is neither this gateway nor OAUTH_ISSUER`)
  }

  function byApiKey(key: string): Principal {
    const credential = findBySecret(apiKeys, key)
    if (!credential)
      throw new GatewayError(
        'unauthorized',
        'The API key is not valid. Check it or ask the operator for a new one.',
      )
    return { kind: 'api-key', name: credential.name, scopes: new Set(credential.scopes) }
  }
}

/** Reads the token from the header (RFC 6750 §2.1) only: tokens in queries or bodies end up in logs. */
function bearerToken(authorization: string | undefined): string {
  if (!usesBearer(authorization)) throw new GatewayError('unauthorized')
  const token = /^bearer +([\w\-.~+/]+=*)$/i.exec(authorization)?.[1]
  if (!token)
    throw new GatewayError(
      'unauthorized',
      'The Authorization header is malformed. Send Bearer, a space and the token.',
    )
  return token
}

/** Whether the header has the scheme Bearer, with a token or without. */
export function usesBearer(authorization: string | undefined): authorization is string {
  return /^bearer(?: |$)/i.test(authorization ?? '')
}

/** Returns the `iss` of a token, only to choose its verifier, which then compares `iss` itself. */
function unverifiedIssuer(token: string): string {
  try {
    return String(jose.decodeJwt(token).iss)
  } catch (error) {
    throw invalidToken(error)
  }
}
