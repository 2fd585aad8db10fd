import { Type } from '@sinclair/typebox'
import { fits, nullish } from '../http/border.ts'
import { createHintReader, gatewayIds, readJsonBody, verifyTimestamped } from '../http/webhook-signature.ts'
import type { HintReader } from '../platform.ts'

/** The current state of the video, with the gateway's id as its creator. */
const Notice = Type.Object({ creator: nullish(Type.String()) })

/**
 * Webhooks of Cloudflare Stream (https://developers.cloudflare.com/stream/manage-video-library/using-webhooks/):
 * `Webhook-Signature: time=SECONDS,sig1=HEX`, when a video is ready or has failed.
 */
export function cloudflareHints(secret: string | undefined): HintReader {
  return createHintReader('CLOUDFLARE_STREAM_WEBHOOK_SECRET', secret, async (notification, secrets) => {
    verifyTimestamped(notification, secrets, 'webhook-signature', { time: 'time', signature: 'sig1' })
    const notice = readJsonBody(notification)
    return fits(Notice, notice) ? gatewayIds(notice.creator) : []
  })
}
