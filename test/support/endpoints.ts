import { v7 as uuidv7 } from 'uuid'
import { deriveWebhookSecrets } from '../../src/auth/gateway-secret.ts'
import type { VideoStore } from '../../src/publication/store.ts'
import type { WebhookEndpoint } from '../../src/publication/webhooks.ts'

/** `GATEWAY_SECRET` of the tests that verify signatures. */
export const gatewaySecret = 'vgs_Zk1mQ0x2c3V5N2RzZ2Z3aGpxYnh0ZXJ5dWlvcGxrajhoN2c2ZjVk'

/** Adds an endpoint that gets what happens from now on. */
export async function addEndpoint(
  store: VideoStore,
  url: string,
  fields: Partial<WebhookEndpoint> = {},
): Promise<WebhookEndpoint> {
  const endpoint = await store.insertEndpoint(
    (now, after) => ({
      id: uuidv7(),
      url,
      description: null,
      events: null,
      enabled: true,
      disabledReason: null,
      generation: 1,
      renewedAt: null,
      failingSince: null,
      after,
      createdAt: now,
      updatedAt: now,
      version: 1,
      ...fields,
    }),
    100,
  )
  if (!endpoint) throw new Error('there are too many endpoints')
  return endpoint
}

/** The secret of an endpoint as its receiver knows it. */
export function secretOf({ id, generation }: Pick<WebhookEndpoint, 'id' | 'generation'>): string {
  return deriveWebhookSecrets([gatewaySecret], id, [generation])[0] as string
}
