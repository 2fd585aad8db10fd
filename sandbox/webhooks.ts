import { createHmac } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Clip, Platform } from './platform.ts'

/** Pauses before the next attempts, in milliseconds; after the last one the notification is dropped. */
const pauses = [200, 1_000, 5_000]
const answerMs = 5_000

/**
 * Sends a webhook for a live or failed clip, if one is configured: `Sandbox-Signature: TIME;SIGNATURE`, an HMAC-SHA256
 * in base64url over the time, a line feed and the body. Never rejects.
 */
export async function notify({ knobs, counters }: Platform, clip: Clip): Promise<void> {
  const { webhook } = knobs
  if (!webhook) return
  const { signal } = clip.gone
  const body = JSON.stringify({
    event: `clip.${clip.state}`,
    clip_id: clip.id,
    external_ref: clip.externalRef,
  })
  for (const pause of [...pauses, undefined]) {
    const time = new Date().toISOString()
    const headers = {
      'content-type': 'application/json',
      'sandbox-signature': `${time};${sign(webhook.secret, time, body)}`,
    }
    try {
      const either = AbortSignal.any([signal, AbortSignal.timeout(answerMs)])
      const { ok } = await fetch(webhook.url, {
        method: 'POST',
        headers,
        body,
        redirect: 'manual',
        signal: either,
      })
      counters.notifications[ok ? 'delivered' : 'failed'] += 1
      if (ok) return
    } catch {
      counters.notifications.failed += 1
    }
    if (pause === undefined || signal.aborted) return
    await delay(pause, undefined, { signal, ref: false }).catch(() => {})
  }
}

/** The signature as the receiver computes it. */
export function sign(secret: string, time: string, body: string | Uint8Array): string {
  return createHmac('sha256', secret).update(`${time}\n`).update(body).digest('base64url')
}
