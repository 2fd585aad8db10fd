import { randomUUID } from 'node:crypto'
import * as jose from 'jose'
import { GatewayError } from '../errors.ts'
import { knownScopes, type Principal, type Scope } from './credentials.ts'
import { deriveSigningKey, generateGatewaySecret } from './gateway-secret.ts'

export interface TokenIssuerOptions {
  /** Issuer identifier, and audience at the same time. A function: it may be known only after listen. */
  issuerUrl: () => string
  /** Private JWK as JSON, ES256 or EdDSA, instead of a key that is derived. */
  signingKey?: string | undefined
  /** The key of the first secret signs; keys of the others only verify. Without secrets a new key is made. */
  secrets?: readonly string[]
  lifetimeSeconds?: number
}

export interface TokenIssuer {
  issuerUrl(): string
  readonly lifetimeSeconds: number
  sign(grant: { client: string; scopes: readonly Scope[] }): Promise<{ token: string; expiresIn: number }>
  /** @throws GatewayError `unauthorized` for a token of another issuer, an invalid one, or one of another kind */
  verify(token: string): Promise<Principal>
  jwks(): { keys: PublicJwk[] }
}

export interface PublicJwk {
  kty: string
  crv: string
  x: string
  /** Only with `kty` EC. */
  y?: string
  kid: string
  alg: string
  use: 'sig'
}

/** Seconds by which the clocks of two replicas may differ. */
export const clockTolerance = 5

/**
 * Signs and verifies the gateway's own access tokens: JWTs of the profile of RFC 9068. They are verified
 * without a database access, so every replica with the same signing key accepts them.
 * @throws Error when the signing key is not usable; the message does not repeat it
 */
export async function createTokenIssuer(options: TokenIssuerOptions): Promise<TokenIssuer> {
  const { issuerUrl, lifetimeSeconds = 900 } = options
  const keys = await Promise.all(privateKeys(options).map(loadKey))
  const [{ alg, privateKey, publicJwk }] = keys as [LoadedKey]

  return {
    issuerUrl,
    lifetimeSeconds,

    async sign({ client, scopes }) {
      const token = await new jose.SignJWT({ client_id: client, scope: scopes.join(' ') })
        .setProtectedHeader({ alg, typ: 'at+jwt', kid: publicJwk.kid })
        .setIssuer(issuerUrl())
        .setAudience(issuerUrl())
        .setSubject(client)
        .setIssuedAt()
        .setExpirationTime(`${lifetimeSeconds}s`)
        .setJti(randomUUID())
        .sign(privateKey)
      return { token, expiresIn: lifetimeSeconds }
    },

    // RFC 9068 §4; algorithm and typ are pinned, as RFC 8725 §3.1 and §3.11 ask.
    async verify(token) {
      const verified = await jose
        .jwtVerify<{ client_id: string; scope: string }>(token, keyOf, {
          algorithms: [alg],
          typ: 'at+jwt',
          issuer: issuerUrl(),
          audience: issuerUrl(),
          requiredClaims: ['sub', 'client_id', 'scope', 'iat', 'exp', 'jti'],
          clockTolerance,
        })
        .catch((error: unknown) => Promise.reject(invalidToken(error)))
      const { client_id: name, scope, exp = 0 } = verified.payload
      const scopes = new Set(knownScopes(String(scope).split(' ')))
      return { kind: 'oauth-client', name, scopes, expiresAt: exp * 1000 }
    },

    jwks: () => ({ keys: keys.map((key) => key.publicJwk) }),
  }

  /** Returns the key with this id, or the first key, with which the verification then fails. */
  function keyOf({ kid }: jose.JWSHeaderParameters): jose.CryptoKey {
    return (keys.find((key) => key.publicJwk.kid === kid) ?? (keys[0] as LoadedKey)).publicKey
  }
}

/** Returns the error for a rejected token. It says whether the token has expired, and nothing about any other flaw. */
export function invalidToken(cause: unknown): GatewayError {
  const expired = cause instanceof jose.errors.JWTExpired
  return new GatewayError(
    'unauthorized',
    `The access token ${expired ? 'has expired' : 'is not valid'}. Request a new one.`,
    {
      cause,
    },
  )
}

interface LoadedKey {
  alg: 'ES256' | 'EdDSA'
  privateKey: jose.CryptoKey
  publicKey: jose.CryptoKey
  publicJwk: PublicJwk
}

/** Returns the signing key, then the keys that only verify. All have the same algorithm. */
function privateKeys({ signingKey, secrets = [] }: TokenIssuerOptions): jose.JWK[] {
  if (signingKey !== undefined) return [parseKey(signingKey)]
  return (secrets.length > 0 ? secrets : [generateGatewaySecret()]).map(deriveSigningKey)
}

async function loadKey(jwk: jose.JWK): Promise<LoadedKey> {
  const alg = jwk.kty === 'EC' ? 'ES256' : 'EdDSA'
  const { d, ...publicPart } = jwk
  const kid = await jose.calculateJwkThumbprint(publicPart) // RFC 7638
  const publicJwk = { ...publicPart, kid, alg, use: 'sig' } as PublicJwk
  try {
    const privateKey = (await jose.importJWK(jwk, alg)) as jose.CryptoKey
    const publicKey = (await jose.importJWK({ ...publicJwk }, alg)) as jose.CryptoKey
    const probe = await new jose.CompactSign(new Uint8Array(1)).setProtectedHeader({ alg }).sign(privateKey)
    await jose.compactVerify(probe, publicKey)
    return { alg, privateKey, publicKey, publicJwk }
  } catch {
    // No cause: a crypto library's message about a private key must not reach a log.
    throw new Error('the signing key is not usable: its private and public parts do not match')
  }
}

/**
 * @returns the text, if it is a private JWK of one of the two algorithms. Whether its parts match is checked at startup
 * @throws Error that describes the expected form and does not repeat the text
 */
export function requireSigningKey(text: string): string {
  parseKey(text)
  return text
}

function parseKey(text: string): jose.JWK {
  const jwk = parseJson(text)
  const alg = algorithmOf(jwk)
  if (!alg) throw new Error('the signing key must be a JWK for ES256 (EC, P-256) or EdDSA (OKP, Ed25519)')
  if (typeof jwk.d !== 'string') throw new Error('the signing key must be a private JWK, with its member d')
  if (jwk.alg !== undefined && jwk.alg !== alg) throw new Error(`the alg of the signing key must be ${alg}`)
  return keyMembers(jwk)
}

function parseJson(text: string): jose.JWK {
  try {
    return Object(JSON.parse(text))
  } catch {
    throw new Error('the signing key must be a JWK in JSON')
  }
}

function algorithmOf({ kty, crv }: jose.JWK): 'ES256' | 'EdDSA' | undefined {
  if (kty === 'EC' && crv === 'P-256') return 'ES256'
  if (kty === 'OKP' && crv === 'Ed25519') return 'EdDSA'
  return undefined
}

/** Returns the members that make the key. Others, such as `key_ops: ["sign"]`, would be wrong on the public half. */
function keyMembers({ kty, crv, x, y, d }: jose.JWK): jose.JWK {
  return Object.fromEntries(Object.entries({ kty, crv, x, y, d }).filter(([, value]) => value !== undefined))
}
