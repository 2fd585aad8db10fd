import { v7 as uuidv7 } from 'uuid'
import { iso } from '../publication/iso.ts'
import type { OwnEvent, WebhookEndpoint } from '../publication/webhooks.ts'

/** An endpoint as the API shows it, and as the events of endpoints carry it. */
export function shownEndpoint(endpoint: WebhookEndpoint) {
  const { id, url, description, events, enabled, disabledReason, version } = endpoint
  return {
    id,
    url,
    description,
    events,
    enabled,
    disabledReason,
    failingSince: iso(endpoint.failingSince),
    secretRenewedAt: iso(endpoint.renewedAt),
    version,
    createdAt: iso(endpoint.createdAt),
    updatedAt: iso(endpoint.updatedAt),
  }
}

/**
 * Makes an event about an endpoint.
 * @param now in ms since the epoch
 */
export function ownEvent(type: OwnEvent['type'], endpoint: WebhookEndpoint, now: number): OwnEvent {
  const id = uuidv7()
  const timestamp = iso(now)
  return { id, type, body: JSON.stringify({ id, type, timestamp, data: shownEndpoint(endpoint) }) }
}
