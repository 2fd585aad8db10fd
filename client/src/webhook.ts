import { createHmac, timingSafeEqual } from 'node:crypto'
import type { Event, Webhook } from './generated/types.gen.ts'

/** Event of a webhook of the gateway. A later gateway may send other types: ignore unknown ones. */
export type WebhookEvent = Event | EndpointEvent

/** An event about an endpoint itself. */
export interface EndpointEvent {
  /** The same if the gateway delivers it again. */
  id: string
  type: 'webhook.test' | 'webhook.disabled'
  /** When it happened (ISO 8601). */
  timestamp: string
  data: Webhook
}

/** Header fields as `fetch`, `node:http` and most frameworks have them; case does not matter. */
export type WebhookHeaders =
  | Headers
  | Iterable<[string, string]>
  | Record<string, string | readonly string[] | undefined>

/** The request is not from the gateway, or is too old: respond with 401 and do nothing. */
export class WebhookVerificationError extends Error {
  override readonly name = 'WebhookVerificationError'
}

/** Maximum difference between the clocks and the delivery's time, in seconds: a recorded old one is rejected. */
const toleranceSeconds = 300

/**
 * Verifies a webhook of the gateway (https://www.standardwebhooks.com) and returns its event.
 * @param body as it arrived, byte for byte: not parsed and serialized again
 * @param secret `whsec_…` of the endpoint; several during a change
 * @throws WebhookVerificationError
 */
export function verifyWebhook(
  body: string | Uint8Array,
  headers: WebhookHeaders,
  secret: string | readonly string[],
): WebhookEvent {
  const id = headerValue(headers, 'webhook-id')
  const time = headerValue(headers, 'webhook-timestamp')
  const signatures = headerValue(headers, 'webhook-signature').split(' ')
  if (!/^\d{1,12}$/.test(time))
    throw new WebhookVerificationError('webhook-timestamp is not a time in seconds')
  const given = signatures
    .filter((signature) => signature.startsWith('v1,'))
    .map((signature) => Buffer.from(signature.slice(3), 'base64'))
  const matches = [secret].flat().some((one) => {
    const key = Buffer.from(one.replace(/^whsec_/, ''), 'base64')
    if (key.length < 24) throw new TypeError('expected the secret of the endpoint, which begins with whsec_')
    const expected = createHmac('sha256', key).update(`${id}.${time}.`).update(body).digest()
    return given.some((bytes) => bytes.length === expected.length && timingSafeEqual(bytes, expected))
  })
  if (!matches)
    throw new WebhookVerificationError('no signature of the webhook matches its body and the secret')
  const age = Date.now() / 1000 - Number(time)
  if (Math.abs(age) > toleranceSeconds)
    throw new WebhookVerificationError(`the webhook was signed ${Math.round(age)} s ago: is the clock right?`)
  try {
    return JSON.parse(typeof body === 'string' ? body : new TextDecoder().decode(body)) as WebhookEvent
  } catch (cause) {
    throw new WebhookVerificationError('the body of the webhook is not JSON', { cause })
  }
}

function headerValue(headers: WebhookHeaders, name: string): string {
  const entries: Iterable<[string, unknown]> = Symbol.iterator in headers ? headers : Object.entries(headers)
  const values = [...entries].filter(([key]) => key.toLowerCase() === name).flatMap(([, value]) => value)
  const [value, ...others] = values
  if (typeof value !== 'string' || value === '' || others.length > 0)
    throw new WebhookVerificationError(
      `the webhook has ${values.length ? 'several headers' : 'no header'} ${name}`,
    )
  return value
}
