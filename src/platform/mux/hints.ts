import { Type } from '@sinclair/typebox'
import { fits } from '../http/border.ts'
import { createHintReader, gatewayIds, readJsonBody, verifyTimestamped } from '../http/webhook-signature.ts'
import type { HintReader } from '../platform.ts'

/** An event about an asset, which contains the gateway's id, or about an upload, which contains it for the later asset. */
const Event = Type.Object({
  type: Type.String(),
  data: Type.Object({
    passthrough: Type.Optional(Type.Unknown()),
    new_asset_settings: Type.Optional(Type.Object({ passthrough: Type.Optional(Type.Unknown()) })),
  }),
})

/** Webhooks of Mux (https://www.mux.com/docs/core/verify-webhook-signatures): `Mux-Signature: t=SECONDS,v1=HEX`. */
export function muxHints(secret: string | undefined): HintReader {
  return createHintReader('MUX_WEBHOOK_SECRET', secret, async (notification, secrets) => {
    verifyTimestamped(notification, secrets, 'mux-signature', { time: 't', signature: 'v1' })
    const event = readJsonBody(notification)
    if (!fits(Event, event) || !/^video\.(asset|upload)\./.test(event.type)) return []
    return gatewayIds(event.data.passthrough, event.data.new_asset_settings?.passthrough)
  })
}
