import { isDeepStrictEqual } from 'node:util'
import { v7 as uuidv7 } from 'uuid'
import { GatewayError } from '../errors.ts'
import { checkTarget, type DialRules, TargetNotAllowedError } from '../outbound/guard.ts'
import type { VideoStore } from '../publication/store.ts'
import { askStore } from '../publication/store-retry.ts'
import type {
  ChangeEndpoint,
  Delivery,
  WebhookEndpoint,
  WebhookEventType,
  WebhookStore,
} from '../publication/webhooks.ts'
import { ownEvent } from './own-events.ts'

/** Dependencies of the use cases of webhooks; wired in `app/webhooks.ts`. */
export interface Webhooks {
  store: WebhookStore & Pick<VideoStore, 'now'>
  rules: DialRules
  /**
   * Returns the secrets of an endpoint that sign at a time (ms since the epoch), the current one first. Undefined in
   * production without `GATEWAY_SECRET`: then nothing can be signed.
   */
  secretsOf: ((endpoint: WebhookEndpoint, now: number) => string[]) | undefined
  /** Called when a client gets the secret of an endpoint. */
  secretShown(): void
  /** Reports that an endpoint has changed, or that a delivery may be due. */
  wake(): void
  /** Aborted when the process stops. */
  signal: AbortSignal
}

/** Maximum number of endpoints. */
export const endpointLimit = 100

/** Fields of an endpoint that a client sets. */
export interface EndpointFields {
  url: string
  description?: string | null
  events?: readonly WebhookEventType[] | null
  enabled?: boolean
}

/** An endpoint with its current secret, which is returned only at its creation and renewal. */
export interface EndpointWithSecret {
  endpoint: WebhookEndpoint
  secret: string
}

/** @throws GatewayError for a URL that is not allowed, one endpoint too many, or without a secret of the gateway */
export async function createEndpoint(
  webhooks: Webhooks,
  { url, description = null, events = null, enabled = true }: EndpointFields,
): Promise<EndpointWithSecret> {
  const secretsOf = requireSecrets(webhooks)
  const target = allowedUrl(url, webhooks.rules)
  const id = uuidv7()
  const make = (now: number, lastPosition: number): WebhookEndpoint => ({
    id,
    url: target,
    description,
    events,
    enabled,
    disabledReason: null,
    generation: 1,
    renewedAt: null,
    failingSince: null,
    after: lastPosition,
    createdAt: now,
    updatedAt: now,
    version: 1,
  })
  const endpoint = await askStore(webhooks, () => webhooks.store.insertEndpoint(make, endpointLimit))
  if (!endpoint)
    throw new GatewayError(
      'too-many-webhooks',
      `This gateway has ${endpointLimit} webhook endpoints, which is the limit. Delete one that is no longer used.`,
    )
  webhooks.wake()
  return withSecret(webhooks, endpoint, secretsOf)
}

/** @throws GatewayError */
export async function requireEndpoint({ store }: Webhooks, id: string): Promise<WebhookEndpoint> {
  return found(await store.findEndpoint(id))
}

/**
 * Changes an endpoint. One that is enabled again begins with the events that happen from then on.
 * @throws GatewayError
 */
export async function changeEndpoint(
  webhooks: Webhooks,
  id: string,
  { url, ...fields }: Partial<EndpointFields>,
): Promise<WebhookEndpoint> {
  const target = url === undefined ? undefined : allowedUrl(url, webhooks.rules)
  const change: ChangeEndpoint = (current, now, lastPosition) => {
    const isNewTarget = target !== undefined && target !== current.url
    const isEnabled = fields.enabled === true && !current.enabled
    const next = {
      ...current,
      ...fields,
      ...(target !== undefined && { url: target }),
      // Earlier failures do not count for the changed endpoint.
      ...((isNewTarget || isEnabled) && { failingSince: null }),
      ...(isEnabled && { after: lastPosition }),
      ...(fields.enabled !== undefined && { disabledReason: null }),
    }
    return isDeepStrictEqual(next, current) ? current : { ...next, updatedAt: now }
  }
  const changed = await askStore(webhooks, () => webhooks.store.updateEndpoint(id, change))
  webhooks.wake()
  return found(changed)
}

/** @throws GatewayError */
export async function deleteEndpoint(webhooks: Webhooks, id: string): Promise<void> {
  if (!(await askStore(webhooks, () => webhooks.store.deleteEndpoint(id))))
    throw new GatewayError('webhook-not-found')
  webhooks.wake()
}

/** Renews the secret. The previous one also signs for a day. @throws GatewayError */
export async function renewSecret(webhooks: Webhooks, id: string): Promise<EndpointWithSecret> {
  const secretsOf = requireSecrets(webhooks)
  /** Of all tries: one whose response was lost, or another caller's, has made the secret already. */
  let generation: number | undefined
  const renew: ChangeEndpoint = (current, now) => {
    generation ??= current.generation + 1
    return current.generation >= generation
      ? current
      : { ...current, generation, renewedAt: now, updatedAt: now }
  }
  const renewed = await askStore(webhooks, () => webhooks.store.updateEndpoint(id, renew))
  return withSecret(webhooks, found(renewed), secretsOf)
}

/** Sends a test event. @throws GatewayError */
export async function sendTest(webhooks: Webhooks, id: string): Promise<Delivery> {
  const endpoint = await requireReachable(webhooks, id)
  const event = ownEvent('webhook.test', endpoint, webhooks.store.now())
  const delivery = await askStore(webhooks, () => webhooks.store.addDelivery(id, event))
  webhooks.wake()
  return delivery
}

/** Delivers an event again, or for the first time. @throws GatewayError */
export async function resendEvent(webhooks: Webhooks, id: string, eventId: string): Promise<Delivery> {
  await requireReachable(webhooks, id)
  const delivery = await askStore(webhooks, () => webhooks.store.resend(id, eventId))
  if (!delivery) throw new GatewayError('event-not-found')
  webhooks.wake()
  return delivery
}

/** Delivers every event since a time again. @param since ms since the epoch @throws GatewayError */
export async function resendSince(webhooks: Webhooks, id: string, since: number): Promise<void> {
  await requireReachable(webhooks, id)
  await askStore(webhooks, () => webhooks.store.resendAfter(id, since))
  webhooks.wake()
}

async function requireReachable(webhooks: Webhooks, id: string): Promise<WebhookEndpoint> {
  requireSecrets(webhooks)
  const endpoint = await requireEndpoint(webhooks, id)
  if (!endpoint.enabled) throw new GatewayError('webhook-disabled')
  return endpoint
}

function requireSecrets({ secretsOf }: Webhooks): NonNullable<Webhooks['secretsOf']> {
  if (!secretsOf) throw new GatewayError('webhooks-not-configured')
  return secretsOf
}

function withSecret(
  { secretShown }: Webhooks,
  endpoint: WebhookEndpoint,
  secretsOf: NonNullable<Webhooks['secretsOf']>,
): EndpointWithSecret {
  secretShown()
  const [secret = ''] = secretsOf(endpoint, endpoint.updatedAt)
  return { endpoint, secret }
}

function found(endpoint: WebhookEndpoint | undefined): WebhookEndpoint {
  if (!endpoint) throw new GatewayError('webhook-not-found')
  return endpoint
}

/** Returns the normalized URL. */
function allowedUrl(url: string, rules: DialRules): string {
  try {
    return checkTarget(url, rules).href
  } catch (error) {
    if (!(error instanceof TargetNotAllowedError)) throw error
    throw new GatewayError('invalid-request', undefined, {
      errors: [{ path: '/url', message: error.message }],
    })
  }
}
