import { v7 as uuidv7 } from 'uuid'
import type { OwnEvent, WebhookEndpoint } from '../publication/webhooks.ts'

/** An endpoint as the API shows it, and as the events of endpoints carry it. */
export function shownEndpoint(endpoint: WebhookEndpoint) {
  const { id, url, description, events, enabled, disabledReason, version } = endpoint
  const time = (ms: number | null) => (ms === null ? null : new Date(ms).toISOString())
  return {
    id,
    url,
    description,
    events,
    enabled,
    disabledReason,
    failingSince: time(endpoint.failingSince),
    secretRenewedAt: time(endpoint.renewedAt),
    version,
    createdAt: new Date(endpoint.createdAt).toISOString(),
    updatedAt: new Date(endpoint.updatedAt).toISOString(),
  }
}

/**
 * Makes an event about an endpoint.
 * @param now in ms since the epoch
 */
export function ownEvent(type: OwnEvent['type'], endpoint: WebhookEndpoint, now: number): OwnEvent {
  const id = uuidv7()
  const timestamp = new Date(now).toISOString()
  return { id, type, body: JSON.stringify({ id, type, timestamp, data: shownEndpoint(endpoint) }) }
}
