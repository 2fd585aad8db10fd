import { createHmac, timingSafeEqual } from 'node:crypto'
import { GatewayError } from '../../errors.ts'
import type { HintReader, Notification } from '../platform.ts'

/**
 * Maximum difference between the time of a signature and the gateway's clock, in ms, so that a later copy of the request
 * is not accepted. The vendors' own libraries allow five minutes.
 */
const toleranceMs = 300_000
/** Signatures of one request: one for each secret that the platform uses while it is changed. */
const maxSignatures = 8

/**
 * Makes the reader of a platform's webhooks.
 * @param secret the value of the variable: comma-separated, so that one secret can replace another without a gap
 * @param read verifies the signature with any of the secrets, and returns the gateway's ids of the videos concerned
 */
export function createHintReader(
  variable: string,
  secret: string | undefined,
  read: (notification: Notification, secrets: readonly string[], signal: AbortSignal) => Promise<string[]>,
): HintReader {
  const secrets = (secret ?? '')
    .split(',')
    .map((one) => one.trim())
    .filter(Boolean)
  return {
    variable,
    configured: secrets.length > 0,
    read: (notification, signal) => read(notification, secrets, signal),
  }
}

/**
 * Verifies a header such as `t=1565220904,v1=5257a8…`, whose signature covers the time, a full stop and the body.
 * @param name of the header field
 * @param keys of the time, in seconds, and of the signatures
 * @throws GatewayError `invalid-signature`
 */
export function verifyTimestamped(
  notification: Notification,
  secrets: readonly string[],
  name: string,
  keys: { time: string; signature: string },
): void {
  const { time, signatures } = readSignature(signatureHeader(notification, name), keys)
  verifyHmac(signatures, secrets, [`${time}.`, notification.body])
  requireRecent(Number(time) * 1000)
}

/** @returns the only value of a header field. @throws GatewayError `invalid-signature` for none, or several */
export function signatureHeader(notification: Notification, name: string): string {
  const [value, ...others] = notification.header(name)
  if (value === undefined) throw rejected(`it has no header ${name}`)
  if (others.length > 0) throw rejected(`it has several headers ${name}`)
  return value
}

/**
 * Reads a header such as `t=1565220904,v1=5257a8…,v1=8f3c…`.
 * @returns the time in seconds as it is written, for it is signed like this, and the signatures
 * @throws GatewayError `invalid-signature`
 */
function readSignature(header: string, keys: { time: string; signature: string }) {
  const pairs = header.split(',').map((pair) => pair.trim().split('=', 2))
  const valuesOf = (wanted: string) => pairs.filter(([key]) => key === wanted).map(([, value = '']) => value)
  const [time, ...others] = valuesOf(keys.time)
  const signatures = valuesOf(keys.signature)
  if (time === undefined || others.length > 0 || !/^\d{1,12}$/.test(time))
    throw rejected('its signature has no time, or several')
  if (signatures.length === 0 || signatures.length > maxSignatures)
    throw rejected(`it has ${signatures.length} signatures`)
  return { time, signatures }
}

/**
 * Compares HMAC-SHA256 signatures with those that the secrets make of the signed bytes, in constant time: one that fits
 * is enough.
 * @throws GatewayError `invalid-signature`
 */
export function verifyHmac(
  signatures: readonly string[],
  secrets: readonly string[],
  signed: readonly (string | Buffer)[],
  encoding: 'hex' | 'base64url' = 'hex',
): void {
  const given = signatures.map((signature) => Buffer.from(signature, encoding))
  let fits = false
  for (const secret of secrets) {
    const hmac = createHmac('sha256', secret)
    for (const part of signed) hmac.update(part)
    const expected = hmac.digest()
    for (const bytes of given)
      if (bytes.length === expected.length && timingSafeEqual(bytes, expected)) fits = true
  }
  if (!fits) throw rejected('no signature matches the secret and the body')
}

/** @param time ms since the epoch, from what was signed. @throws GatewayError `invalid-signature` */
export function requireRecent(time: number): void {
  const age = Date.now() - time
  if (!(Math.abs(age) <= toleranceMs))
    throw rejected(`it was signed ${Math.round(age / 1000)} s ago, more than ${toleranceMs / 1000} s off`)
}

/** The body of a verified notification. @throws GatewayError `invalid-request` */
export function readJsonBody({ body }: Notification): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
  } catch (cause) {
    throw new GatewayError('invalid-request', 'The body is not JSON in UTF-8.', { cause })
  }
}

/** The ids that can be the gateway's own among the values that a platform returns as such. */
export function gatewayIds(...values: unknown[]): string[] {
  const isId = (value: unknown) =>
    typeof value === 'string' && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(value)
  return [...new Set(values.filter(isId) as string[])]
}

/** @param reason for the log only: a forger gets no hint */
export function rejected(reason: string): GatewayError {
  return new GatewayError('invalid-signature', undefined, { cause: reason })
}
