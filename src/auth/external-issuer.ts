import * as jose from 'jose'
import { allowInsecureRequests, discovery } from 'openid-client'
import { GatewayError } from '../errors.ts'
import { clockTolerance, tokenRefused } from './access-tokens.ts'
import { knownScopes, type Principal } from './credentials.ts'

export interface ExternalIssuerOptions {
  /** Issuer identifier: https, or http on a loopback address. */
  issuerUrl: string
  /** What `aud` must contain. */
  audience: string
  log: { warn(details: object, message: string): void }
}

export interface ExternalIssuer {
  /** Whether a token with this `iss` is to be verified here. */
  issues(iss: string): boolean
  /** Throws GatewayError `unauthorized` for a bad token, and while the issuer is out of reach. */
  verify(token: string): Promise<Principal>
}

/** Signatures by a key pair only: with HS256 the public key would do as the secret (RFC 8725 §2.1). */
const algorithms = 'RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA Ed25519'.split(' ')

/** RFC 9068 asks for at+jwt, older issuers say JWT or nothing. Tokens of any other kind are refused. */
const accessTokenTypes = new Set(['jwt', 'at+jwt', 'application/at+jwt'])

const discoveryTimeoutSeconds = 3

/**
 * Accepts access tokens of another authorization server. Its keys are found at the first token (OpenID
 * Connect Discovery, else RFC 8414), so that the gateway starts while the issuer is down.
 */
export function createExternalIssuer(options: ExternalIssuerOptions): ExternalIssuer {
  const { audience, log } = options
  const issuerUrl = new URL(options.issuerUrl)
  if (!isSecure(issuerUrl) && !isLoopback(issuerUrl)) {
    throw new Error('OAUTH_ISSUER: expected an https URL; http is accepted on a loopback address only')
  }
  let discovered: Promise<Discovered> | undefined

  return {
    issues: (iss) => URL.canParse(iss) && new URL(iss).href === issuerUrl.href,

    async verify(token) {
      const { issuer, keys } = await discoverOnce()
      const findKey: jose.JWTVerifyGetKey = async (header, jws) => {
        try {
          return await keys(header, jws)
        } catch (error) {
          throw isFlawOfToken(error) ? error : outOfReach(error)
        }
      }
      const { payload, protectedHeader } = await jose
        .jwtVerify(token, findKey, { algorithms, issuer, audience, requiredClaims: ['exp'], clockTolerance })
        .catch((error) => Promise.reject(error instanceof GatewayError ? error : tokenRefused(error)))
      if (!accessTokenTypes.has(String(protectedHeader.typ ?? 'JWT').toLowerCase())) throw tokenRefused('typ')
      return principalOf(payload)
    },
  }

  /** One discovery at a time, shared by the calls that wait for it. A failure is forgotten at once. */
  function discoverOnce(): Promise<Discovered> {
    discovered ??= discover(issuerUrl).catch((error: unknown) => {
      discovered = undefined
      throw outOfReach(error)
    })
    return discovered
  }

  function outOfReach(cause: unknown): GatewayError {
    log.warn({ err: cause, issuer: issuerUrl.href }, 'the external issuer of access tokens is out of reach')
    return new GatewayError('unauthorized', 'The issuer of the access token cannot be reached', { cause })
  }
}

/** No such key is a flaw of the token; no keys to be had is a fault of the issuer. */
function isFlawOfToken(error: unknown): boolean {
  const { JWKSNoMatchingKey, JWKSMultipleMatchingKeys, JOSENotSupported } = jose.errors
  return [JWKSNoMatchingKey, JWKSMultipleMatchingKeys, JOSENotSupported].some((type) => error instanceof type)
}

interface Discovered {
  issuer: string
  keys: jose.JWTVerifyGetKey
}

async function discover(issuerUrl: URL): Promise<Discovered> {
  const metadata = await fetchMetadata(issuerUrl, 'oidc').catch(() => fetchMetadata(issuerUrl, 'oauth2'))
  if (!metadata.jwks_uri) throw new Error('the metadata of the issuer have no jwks_uri')
  const jwksUri = new URL(metadata.jwks_uri)
  if (!isSecure(jwksUri) && !(isLoopback(issuerUrl) && isLoopback(jwksUri))) {
    throw new Error('the jwks_uri of the issuer is not https')
  }
  return { issuer: metadata.issuer, keys: jose.createRemoteJWKSet(jwksUri) }
}

async function fetchMetadata(issuerUrl: URL, algorithm: 'oidc' | 'oauth2') {
  // Only metadata are read: the client id that the library wants is never sent.
  const configuration = await discovery(issuerUrl, 'video-gateway', undefined, undefined, {
    algorithm,
    timeout: discoveryTimeoutSeconds,
    execute: isSecure(issuerUrl) ? [] : [allowInsecureRequests],
  })
  return configuration.serverMetadata()
}

/** `scope` by RFC 9068 §2.2.3; `scp`, a list or a string, is what some issuers write instead. */
function principalOf(claims: jose.JWTPayload): Principal {
  const name = [claims.client_id, claims.azp, claims.sub].find((claim) => typeof claim === 'string' && claim)
  if (!name) throw tokenRefused('client_id, azp, sub')
  const granted = claims.scope ?? claims.scp ?? []
  const names = Array.isArray(granted) ? granted : String(granted).split(' ')
  return { name: name as string, scopes: new Set(knownScopes(names)) }
}

function isSecure(url: URL): boolean {
  return url.protocol === 'https:'
}

function isLoopback({ protocol, hostname }: URL): boolean {
  return protocol === 'http:' && /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname)
}
