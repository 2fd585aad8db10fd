import { createECDH, hkdfSync } from 'node:crypto'
import type { JWK } from 'jose'
import { generateSecret } from './credentials.ts'

/** Fewest bytes of a secret: as many as the keys that are derived from it have. */
const minBytes = 32

/** Order of the curve P-256, SEC 2 §2.4.2. */
const p256Order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n

/** Returns a new secret: 256 random bits. */
export function generateGatewaySecret(): string {
  return generateSecret('vgs_')
}

/**
 * Checks the secrets of the gateway: the first is used, the others still verify. Each is text of at least 32 random
 * bytes in any usual encoding.
 * @returns the different ones
 * @throws Error that names a secret by its position and never repeats it
 */
export function checkSecrets(secrets: readonly string[]): string[] {
  for (const [index, secret] of secrets.entries()) {
    if (secret.startsWith('GATEWAY_SECRET='))
      throw new Error(`secret ${index + 1} begins with GATEWAY_SECRET=: give only what follows`)
    if (!isStrong(secret))
      throw new Error(
        `secret ${index + 1} is too weak: expected at least ${minBytes} random bytes, use npm run secret or openssl rand -base64 32`,
      )
  }
  return [...new Set(secrets)]
}

/**
 * Derives key material by HKDF (RFC 5869) with SHA-256. Its input is the text of the secret itself, so that the
 * encoding does not matter.
 * @param purpose different purposes get independent material; changing the text changes the keys of every installation
 * @param length in bytes
 */
export function deriveBytes(secret: string, purpose: string, length: number): Buffer {
  // Without salt: the secret is random already, and replicas must derive the same (RFC 5869 §3.1).
  return Buffer.from(hkdfSync('sha256', secret, '', `video-gateway ${purpose}`, length))
}

/** Derives the private key (ES256) that signs access tokens. */
export function deriveSigningKey(secret: string): JWK {
  // FIPS 186-5 §A.2.1: 64 bits more than the order has, so that the remainder is not biased.
  const candidate = BigInt(`0x${deriveBytes(secret, 'access token signing key', 40).toString('hex')}`)
  const d = Buffer.from(((candidate % (p256Order - 1n)) + 1n).toString(16).padStart(64, '0'), 'hex')
  const curve = createECDH('prime256v1')
  curve.setPrivateKey(d)
  // SEC 1 §2.3.3: 4, x, y.
  const point = curve.getPublicKey()
  const [x, y] = [point.subarray(1, 33), point.subarray(33)].map((part) => part.toString('base64url'))
  return { kty: 'EC', crv: 'P-256', x: x as string, y: y as string, d: d.toString('base64url') }
}

/**
 * Derives the secret of a webhook endpoint, so that none is stored: `whsec_` and 32 bytes in base64 (Standard
 * Webhooks).
 * @param secrets those of the gateway. While they are changed, receivers know the one that an earlier secret makes
 * @param endpoint its id
 * @param generations those whose secrets are valid, the current one first: a renewal adds one
 * @returns one for each pair, the current one first
 */
export function deriveWebhookSecrets(
  secrets: readonly string[],
  endpoint: string,
  generations: readonly number[],
): string[] {
  return secrets.flatMap((secret) =>
    generations.map((generation) => {
      const key = deriveBytes(secret, `webhook secret of ${endpoint}, generation ${generation}`, 32)
      return `whsec_${key.toString('base64')}`
    }),
  )
}

/** Long enough for 32 bytes in its encoding, and not a phrase that repeats itself. */
function isStrong(secret: string): boolean {
  const bits = /^[0-9a-f]+$/i.test(secret) ? 4 : 6
  return secret.length * bits >= minBytes * 8 && new Set(secret).size >= 10
}
