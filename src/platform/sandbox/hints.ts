import { Type } from '@sinclair/typebox'
import { fits, nullish } from '../http/border.ts'
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

const Event = Type.Object({ external_ref: nullish(Type.String()) })

/** Webhooks of the sandbox: `Sandbox-Signature: TIME;BASE64URL`, over the time, a line feed and the body. */
export function sandboxHints(secret: string | undefined): HintReader {
  return createHintReader('SANDBOX_WEBHOOK_SECRET', secret, async (notification, secrets) => {
    const header = signatureHeader(notification, 'sandbox-signature')
    const [time = '', signature, ...others] = header.split(';')
    if (signature === undefined || others.length > 0) throw rejected('its signature has an unknown form')
    verifyHmac([signature], secrets, [`${time}\n`, notification.body], 'base64url')
    requireRecent(Date.parse(time))
    const event = readJsonBody(notification)
    return fits(Event, event) ? gatewayIds(event.external_ref) : []
  })
}
