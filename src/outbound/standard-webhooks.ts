import { createHmac } from 'node:crypto'

/**
 * Signs a message as Standard Webhooks do
 * (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md): HMAC-SHA256 over id, time
 * and body. With several secrets it has a signature of each, so that the receiver may still know any of them.
 * @param secrets `whsec_` and the key in base64; the current one first
 * @param id the same for each delivery of a message, so that the receiver recognizes a repeated one
 * @param time of this delivery, in ms since the epoch
 * @param body as it is sent, byte for byte
 * @returns the headers
 */
export function signWebhook(secrets: readonly string[], id: string, time: number, body: string | Uint8Array) {
  const seconds = String(Math.floor(time / 1000))
  const signatures = secrets.map((secret) => {
    const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64')
    return `v1,${createHmac('sha256', key).update(`${id}.${seconds}.`).update(body).digest('base64')}`
  })
  return { 'webhook-id': id, 'webhook-timestamp': seconds, 'webhook-signature': signatures.join(' ') }
}
