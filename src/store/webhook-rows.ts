import type { VideoEvent } from '../publication/events.ts'
import type { AttemptResult, ClaimedDelivery, Delivery, WebhookEndpoint } from '../publication/webhooks.ts'

/** Deliveries that one transaction adds: some ten milliseconds. */
const addedDeliveries = 2_000

/** Returns the number of events of one transaction of `fanOut`. */
export function fanOutBatch(limit: number, endpoints: number): number {
  return Math.min(limit, Math.max(1, Math.floor(addedDeliveries / endpoints)))
}

/** A row of either engine, under the names of SQLite's columns. */
type Row = Record<string, unknown>

/** Returns the endpoint of a row: what statements read are columns, the rest is one JSON document. */
export function endpointOf(row: Row): WebhookEndpoint {
  return {
    ...JSON.parse(row.document as string),
    id: row.id,
    enabled: row.enabled === 1,
    events: row.events === null ? null : JSON.parse(row.events as string),
    after: row.beginsAfter,
    failingSince: row.failingSince,
    version: row.version,
  }
}

/** Returns the columns of an endpoint, `id` first, in the order of the statements of both engines. */
export function endpointValues(endpoint: WebhookEndpoint): (string | number | null)[] {
  const { id, enabled, events, after, failingSince, version, ...document } = endpoint
  return [
    id,
    JSON.stringify(document),
    enabled ? 1 : 0,
    events && JSON.stringify(events),
    after,
    failingSince,
    version,
  ]
}

/** Returns the delivery of a row; `result` is null until an attempt has ended. */
export function deliveryOf(row: Row): Delivery {
  const result = row.result === null ? { responseStatus: null, failure: null, response: null } : undefined
  const { endpointId, eventId, type, status, attempts, createdAt, nextAttemptAt, lastAttemptAt } = row
  return {
    ...({ endpointId, eventId, type, status, attempts, createdAt, nextAttemptAt, lastAttemptAt } as Delivery),
    ...(result ?? JSON.parse(row.result as string)),
  }
}

/** Returns the column `result` of an attempt. JSON, as a response may contain characters that PostgreSQL's `text` cannot. */
export function resultText({ responseStatus, failure, response }: AttemptResult): string {
  return JSON.stringify({ responseStatus, failure: failure ?? null, response })
}

/** Returns the claimed delivery of a row, with its event's columns: `eventCreatedAt` and `video` are null without one. */
export function claimedOf(row: Row): ClaimedDelivery {
  return { ...deliveryOf(row), event: (row.body as string | null) ?? eventOf(row) }
}

function eventOf({ eventId, position, type, eventCreatedAt, video }: Row): VideoEvent | null {
  if (video === null) return null
  const event = { id: eventId, position, type, createdAt: eventCreatedAt }
  return { ...event, video: JSON.parse(video as string) } as VideoEvent
}
