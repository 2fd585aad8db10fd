import type { JWTHeaderParameters, JWTPayload } from 'jose'

/** `typ` of the header. RFC 9068 §2.1 requires at+jwt; older issuers write JWT or nothing, also for ID tokens. */
const headerTypes = ['jwt', 'at+jwt', 'application/at+jwt']

/** Claims in which issuers say what kind of token this is: Keycloak in `typ`, Cognito in `token_use`. */
const kindClaims = ['typ', 'token_use', 'token_type']
const accessTokens = ['bearer', 'access', 'access_token', 'at+jwt']

/** Claims of ID tokens alone: OpenID Connect Core §2, §3.3.2.11. */
const idTokenClaims = ['nonce', 'at_hash', 'c_hash']

/** Claims that name the client of a token: RFC 9068, OpenID Connect, Entra ID, Okta. */
export const clientClaims = ['client_id', 'azp', 'appid', 'cid']

/**
 * Returns why a token of the external issuer is not an access token, or undefined. An issuer signs ID tokens, refresh
 * tokens and logout tokens with the same keys, and often for the same audience (RFC 8725 §2.8, §3.12).
 */
export function kindFlaw(header: JWTHeaderParameters, claims: JWTPayload): string | undefined {
  const type = String(header.typ ?? 'jwt').toLowerCase()
  if (!headerTypes.includes(type)) return `its header has the typ ${header.typ}`

  const kinds = kindClaims.filter((name) => claims[name] !== undefined)
  // `typ: JWT` in the payload says nothing, as in the header.
  const telling = kinds.filter((name) => String(claims[name]).toLowerCase() !== 'jwt')
  const other = telling.find((name) => !accessTokens.includes(String(claims[name]).toLowerCase()))
  if (other) return `it is not an access token: its ${other} is ${claims[other]}`
  // RFC 8417: security events, among them the logout tokens of OpenID Connect Back-Channel Logout §2.4.
  if (claims.events !== undefined) return 'it is not an access token: it has the claim events'

  if (type !== 'jwt' || telling.length > 0) return undefined
  const mark = idTokenClaims.find((name) => claims[name] !== undefined)
  if (mark) return `it is an ID token: it has the claim ${mark}`
  const has = (name: string) => claims[name] !== undefined
  if (!['scope', 'scp', ...clientClaims].some(has))
    return `it seems to be an ID token: it has neither a scope nor one of ${clientClaims.join(', ')}`
  return undefined
}
