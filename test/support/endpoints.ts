import { deriveWebhookSecrets } from '../../src/auth/gateway-secret.ts'
import type { VideoStore } from '../../src/publication/store.ts'
import type { WebhookEndpoint } from '../../src/publication/webhooks.ts'
import { addEndpoint as addRow } from './webhooks.ts'

/** `GATEWAY_SECRET` of the tests that verify signatures. */
export const gatewaySecret = 'vgs_Zk1mQ0x2c3V5N2RzZ2Z3aGpxYnh0ZXJ5dWlvcGxrajhoN2c2ZjVk'

/** Adds an endpoint that gets the events from now on. */
export function addEndpoint(
  store: VideoStore,
  url: string,
  fields: Partial<WebhookEndpoint> = {},
): Promise<WebhookEndpoint> {
  return addRow(store, { url, ...fields })
}

/** The secret of an endpoint as its receiver knows it. */
export function secretOf({ id, generation }: Pick<WebhookEndpoint, 'id' | 'generation'>): string {
  return deriveWebhookSecrets([gatewaySecret], id, [generation])[0] as string
}
