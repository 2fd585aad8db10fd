import { Type } from '@sinclair/typebox'
import { fits, nullish } from '../http/border.ts'
import {
  gatewayIds,
  readJsonBody,
  readSecrets,
  readSignature,
  requireRecent,
  signatureHeader,
  verifyHmac,
} from '../http/webhook-signature.ts'
import type { HintReader } from '../platform.ts'

/** The current state of the video, with the gateway's id as its creator. */
const Notice = Type.Object({ creator: nullish(Type.String()) })

/**
 * Webhooks of Cloudflare Stream (https://developers.cloudflare.com/stream/manage-video-library/using-webhooks/):
 * `Webhook-Signature: time=SECONDS,sig1=HEX`, when a video is ready or has failed.
 */
export function cloudflareHints(secret: string | undefined): HintReader {
  const secrets = readSecrets(secret)
  return {
    variable: 'CLOUDFLARE_STREAM_WEBHOOK_SECRET',
    configured: secrets.length > 0,
    async read(notification) {
      const header = signatureHeader(notification, 'webhook-signature')
      const { time, signatures } = readSignature(header, { time: 'time', signature: 'sig1' })
      verifyHmac(signatures, secrets, [`${time}.`, notification.body])
      requireRecent(Number(time) * 1000)
      const notice = readJsonBody(notification)
      return fits(Notice, notice) ? gatewayIds(notice.creator) : []
    },
  }
}
