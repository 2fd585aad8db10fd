import { deriveWebhookSecrets } from '../auth/gateway-secret.ts'
import type { Config } from '../config/config.ts'
import { version } from '../config/version.ts'
import { validGenerations } from '../events/endpoint-secrets.ts'
import type { Webhooks } from '../events/endpoints.ts'
import {
  defaultWebhookPolicy,
  startWebhookDeliveries,
  type WebhookDeliveries,
  type WebhookOptions,
  type WebhookPolicy,
} from '../events/webhooks.ts'
import { createDialRules, createGuardedAgent } from '../outbound/guard.ts'
import { createNameLookup } from '../outbound/lookup.ts'
import type { Log } from '../platform/tools.ts'
import type { VideoStore } from '../publication/store.ts'

export interface WebhookSetup {
  config: Config
  store: VideoStore
  log: Log
  secrets: readonly string[]
  /** Called after a change of an endpoint or a delivery. */
  changed(): void
  /** Aborted when the process stops. */
  signal: AbortSignal
}

/** Creates what the use cases of webhook endpoints work with. */
export function createWebhooks({ config, store, log, secrets, changed, signal }: WebhookSetup): Webhooks {
  return {
    store,
    rules: createDialRules(config.webhooks, config.production),
    secretsOf:
      secrets.length > 0
        ? (endpoint, now) => deriveWebhookSecrets(secrets, endpoint.id, validGenerations(endpoint, now))
        : undefined,
    secretShown() {
      if (secrets !== config.secrets)
        log.warn(
          {},
          'GATEWAY_SECRET: is not set, so this secret of a webhook is valid until the process ends',
        )
    },
    wake: changed,
    signal,
  }
}

export interface DeliverySetup extends Pick<WebhookOptions, 'store' | 'log' | 'observer' | 'render'> {
  policy?: Partial<WebhookPolicy> | undefined
  nameServers?: readonly string[] | undefined
}

/** Starts the deliveries. Without secrets there are no signatures, so there are no deliveries. */
export function startDeliveries(
  { rules, secretsOf }: Webhooks,
  { policy, nameServers, ...setup }: DeliverySetup,
): WebhookDeliveries | undefined {
  return (
    secretsOf &&
    startWebhookDeliveries({
      ...setup,
      policy: { ...defaultWebhookPolicy, ...policy },
      dispatcher: createGuardedAgent(rules, createNameLookup(nameServers)),
      secretsOf,
      userAgent: `video-gateway/${version}`,
    })
  )
}
