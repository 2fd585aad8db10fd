import * as jose from 'jose'
import { GatewayError } from '../errors.ts'
import { clockTolerance, invalidToken } from './access-tokens.ts'
import type { Principal } from './credentials.ts'
import { createIssuerKeys, type IssuerLog, issuerPolicy } from './issuer-keys.ts'
import { isSameIssuer, mayFetch } from './issuer-metadata.ts'
import { audienceFlaw, type ClaimRules, scopesOf } from './token-claims.ts'
import { clientClaims, kindFlaw } from './token-kind.ts'

export interface ExternalIssuerOptions {
  /** Issuer identifier: https, or http on a loopback address. */
  issuerUrl: string
  /** Accept http on other hosts too: anyone who can change that traffic can forge tokens. */
  allowHttp?: boolean
  claims: ClaimRules
  log: IssuerLog
  /** For tests that cannot wait. */
  policy?: typeof issuerPolicy
}

export interface ExternalIssuer {
  /** Whether a token with this `iss` is to be verified here. */
  issues(iss: string): boolean
  /** Throws GatewayError `unauthorized` for a bad token, `issuer-unavailable` if the required key cannot be fetched. */
  verify(token: string): Promise<Principal>
  /** Stops all requests to the issuer. */
  close(): void
}

/** Only asymmetric signatures: with HS256 the public key would serve as the secret (RFC 8725 §2.1). */
const algorithms = 'RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA Ed25519'.split(' ')

/**
 * Accepts access tokens of another authorization server. It fetches the issuer's keys at the first token, so the
 * gateway can start while the issuer is unavailable.
 */
export function createExternalIssuer(options: ExternalIssuerOptions): ExternalIssuer {
  const { allowHttp = false, claims: rules, log, policy = issuerPolicy } = options
  const url = new URL(options.issuerUrl)
  if (!mayFetch(url, { url, allowHttp }))
    throw new Error(
      'OAUTH_ISSUER: expected an https URL; http is accepted on a loopback address, and elsewhere with OAUTH_ALLOW_HTTP=true',
    )
  const keys = createIssuerKeys({ url, allowHttp }, log, policy)

  return {
    issues: (iss) => isSameIssuer(iss, url),

    async verify(token) {
      const { issuer, find } = await keys.current()
      const { payload, protectedHeader } = await jose
        .jwtVerify(token, find, { algorithms, issuer, requiredClaims: ['exp'], clockTolerance })
        .catch((error) => Promise.reject(error instanceof GatewayError ? error : invalidToken(error)))
      const flaw = kindFlaw(protectedHeader, payload) ?? audienceFlaw(payload, rules)
      if (flaw) throw invalidToken(flaw)
      return principalOf(payload, rules, issuer)
    },

    close: keys.close,
  }
}

function principalOf(claims: jose.JWTPayload, rules: ClaimRules, issuer: string): Principal {
  const names = [...clientClaims, 'sub']
  const claim = names.find((name) => typeof claims[name] === 'string' && claims[name])
  if (!claim) throw invalidToken(`it has none of the claims ${names.join(', ')}`)
  return {
    kind: 'external',
    name: claims[claim] as string,
    origin: `${new URL(issuer).href} ${claim}`,
    scopes: scopesOf(claims, rules),
    expiresAt: (claims.exp ?? 0) * 1000,
  }
}
