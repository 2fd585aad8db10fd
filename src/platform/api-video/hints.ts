import { type Static, Type } from '@sinclair/typebox'
import { fits, Id } from '../http/border.ts'
import {
  createHintReader,
  gatewayIds,
  readJsonBody,
  rejected,
  requireRecent,
  signatureHeader,
  verifyHmac,
} from '../http/webhook-signature.ts'
import type { HintReader } from '../platform.ts'

/** Sent for each quality of a video; `videoId` is theirs. */
const Event = Type.Object({ type: Type.String(), emittedAt: Type.String(), videoId: Id })

/**
 * Webhooks of api.video (https://docs.api.video/reference/create-and-manage-webhooks): `X-Api-Video-Signature` is an
 * HMAC in hex over the body alone, whose `emittedAt` is thereby the time of the signature. They do not contain the
 * gateway's id, so the platform is asked for it.
 * @param ownIdOf asks the platform for the gateway's id of a video
 */
export function apiVideoHints(
  secret: string | undefined,
  ownIdOf: (videoId: string, signal: AbortSignal) => Promise<string | undefined>,
): HintReader {
  return createHintReader('API_VIDEO_WEBHOOK_SECRET', secret, async (notification, secrets, signal) => {
    verifyHmac([signatureHeader(notification, 'x-api-video-signature')], secrets, [notification.body])
    const event = readJsonBody(notification) as Static<typeof Event>
    const { emittedAt, type } = event ?? {}
    if (typeof emittedAt !== 'string') throw rejected('its body has no time')
    requireRecent(Date.parse(emittedAt))
    if (!fits(Event, event) || !type.startsWith('video.')) return []
    return gatewayIds(await ownIdOf(event.videoId, signal))
  })
}
