import * as jose from 'jose'
import { GatewayError } from '../errors.ts'
import { clockTolerance, tokenRefused } from './access-tokens.ts'
import { knownScopes, type Principal } from './credentials.ts'
import { createIssuerKeys, type IssuerLog, issuerPolicy } from './issuer-keys.ts'
import { isLoopback, isSecure } from './issuer-metadata.ts'

export interface ExternalIssuerOptions {
  /** Issuer identifier: https, or http on a loopback address. */
  issuerUrl: string
  /** What `aud` must contain. */
  audience: string
  log: IssuerLog
  /** For tests that cannot wait. */
  policy?: typeof issuerPolicy
}

export interface ExternalIssuer {
  /** Whether a token with this `iss` is to be verified here. */
  issues(iss: string): boolean
  /** Throws GatewayError `unauthorized` for a bad token, `issuer-unavailable` where only the issuer could tell. */
  verify(token: string): Promise<Principal>
  /** Asks the issuer nothing more. */
  close(): void
}

/** Signatures by a key pair only: with HS256 the public key would do as the secret (RFC 8725 §2.1). */
const algorithms = 'RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA Ed25519'.split(' ')

/** RFC 9068 asks for at+jwt, older issuers say JWT or nothing. Tokens of any other kind are refused. */
const accessTokenTypes = new Set(['jwt', 'at+jwt', 'application/at+jwt'])

/**
 * Accepts access tokens of another authorization server. Its keys are fetched at the first token, so that the gateway
 * starts while the issuer is down.
 */
export function createExternalIssuer(options: ExternalIssuerOptions): ExternalIssuer {
  const { audience, log, policy = issuerPolicy } = options
  const issuerUrl = new URL(options.issuerUrl)
  if (!isSecure(issuerUrl) && !isLoopback(issuerUrl)) {
    throw new Error('OAUTH_ISSUER: expected an https URL; http is accepted on a loopback address only')
  }
  const keys = createIssuerKeys(issuerUrl, log, policy)

  return {
    issues: (iss) => URL.canParse(iss) && new URL(iss).href === issuerUrl.href,

    async verify(token) {
      const issuer = await keys.issuer()
      const { payload, protectedHeader } = await jose
        .jwtVerify(token, keys.find, {
          algorithms,
          issuer,
          audience,
          requiredClaims: ['exp'],
          clockTolerance,
        })
        .catch((error) => Promise.reject(error instanceof GatewayError ? error : tokenRefused(error)))
      if (!accessTokenTypes.has(String(protectedHeader.typ ?? 'JWT').toLowerCase())) throw tokenRefused('typ')
      return principalOf(payload, issuerUrl)
    },

    close: keys.close,
  }
}

/** `scope` by RFC 9068 §2.2.3; `scp`, a list or a string, is what some issuers write instead. */
function principalOf(claims: jose.JWTPayload, issuerUrl: URL): Principal {
  const claim = ['client_id', 'azp', 'sub'].find((name) => typeof claims[name] === 'string' && claims[name])
  if (!claim) throw tokenRefused('client_id, azp, sub')
  const granted = claims.scope ?? claims.scp ?? []
  const names = Array.isArray(granted) ? granted : String(granted).split(' ')
  return {
    kind: 'external',
    name: claims[claim] as string,
    origin: `${issuerUrl.href} ${claim}`,
    scopes: new Set(knownScopes(names)),
  }
}
