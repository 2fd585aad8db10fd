import { type EventType, eventTypes, type VideoEvent } from './events.ts'

/** Types to which an endpoint can subscribe. By default it gets all events of videos, and none about endpoints. */
export const webhookEventTypes = [...eventTypes, 'webhook.disabled'] as const
export type WebhookEventType = (typeof webhookEventTypes)[number]

/**
 * Longest time between two attempts, in ms. A delivery that is scheduled further ahead was scheduled before the clock was
 * set back, and counts as due.
 */
export const longestDeliveryPauseMs = 48 * 3_600_000

/** A URL that is called when something happens: a row of the store. Times in ms since the epoch. */
export interface WebhookEndpoint {
  /** UUIDv7. */
  id: string
  url: string
  description: string | null
  /** The types to which it subscribes; null for all events of videos. */
  events: readonly WebhookEventType[] | null
  enabled: boolean
  /** Why the gateway disabled it; null otherwise. */
  disabledReason: 'gone' | 'failing' | null
  /** Generation of its secret, which is derived and not stored: 1 at first, increased by each renewal. */
  generation: number
  /** Time of the last renewal of the secret; null before the first. */
  renewedAt: number | null
  /**
   * Since when every delivery has failed; null after one that succeeded, and before the first. It changes without a new
   * version, because it is a measurement and not a change by a client.
   */
  failingSince: number | null
  /** The position after which events are delivered: where the events ended when it was made or enabled. */
  after: number
  createdAt: number
  updatedAt: number
  version: number
}

/** An event that is not one of a video: a test, or news of an endpoint. Its deliveries carry its body. */
export interface OwnEvent {
  /** UUIDv7. */
  id: string
  type: 'webhook.test' | 'webhook.disabled'
  /** JSON, as it is signed and sent. */
  body: string
}

export type DeliveryStatus = 'pending' | 'delivered' | 'failed'

/** The delivery of one event to one endpoint: a row of the store. Times in ms since the epoch. */
export interface Delivery {
  endpointId: string
  eventId: string
  type: EventType | OwnEvent['type']
  /** `failed` after the last attempt. */
  status: DeliveryStatus
  /** Attempts so far, with the one in progress. A resend begins again at 0. */
  attempts: number
  /** Time of the event; after a resend the time of its request. */
  createdAt: number
  /** Null once it was delivered or has failed. */
  nextAttemptAt: number | null
  lastAttemptAt: number | null
  /** Status of the response and failure of the last attempt. */
  responseStatus: number | null
  failure: string | null
  /** The beginning of the last response, as text of one line. */
  response: string | null
}

/** A delivery that this process makes now. Another one may take it over when the claim ends. */
export interface ClaimedDelivery extends Delivery {
  /** Its body: an event of the store, or the text of an own one. Null: the event is gone, so it cannot be delivered. */
  event: VideoEvent | string | null
}

/** Result of an attempt. */
export interface AttemptResult {
  responseStatus: number | null
  /** Undefined: delivered. */
  failure: string | undefined
  response: string | null
  /** Time until the next attempt, in ms; undefined after the last one. */
  retryIn: number | undefined
}

/** A page of deliveries, the newest event first. `before` is the id of the event after which the page starts. */
export interface DeliveryQuery {
  endpointId: string
  status?: DeliveryStatus | undefined
  before?: string | undefined
  limit: number
}

/** Makes the row of an endpoint for the time of the store and the position of its last event. Must be pure. */
export type MakeEndpoint = (now: number, lastPosition: number) => WebhookEndpoint
/** As `MakeEndpoint`, of the row as it is. Returns its argument to change nothing. */
export type ChangeEndpoint = (current: WebhookEndpoint, now: number, lastPosition: number) => WebhookEndpoint

/** Stores the endpoints and deliveries. The rules of `VideoStore` apply here too. */
export interface WebhookStore {
  /** @returns undefined, and adds nothing, when there are `limit` endpoints already */
  insertEndpoint(make: MakeEndpoint, limit: number): Promise<WebhookEndpoint | undefined>
  findEndpoint(id: string): Promise<WebhookEndpoint | undefined>
  /** All of them, the oldest first: there are few. */
  endpoints(): Promise<WebhookEndpoint[]>
  /**
   * Compare-and-set, as `VideoStore.update`: the version grows by one. The row that `change` gets is the one that is
   * replaced, including `failingSince`.
   * @param notice is delivered, in the same transaction, to the other enabled endpoints that subscribe to its type
   */
  updateEndpoint(
    id: string,
    change: ChangeEndpoint,
    notice?: (changed: WebhookEndpoint) => OwnEvent | undefined,
  ): Promise<WebhookEndpoint | undefined>
  /** Its deliveries go with `expireDeliveries`. @returns whether it was there */
  deleteEndpoint(id: string): Promise<boolean>

  /**
   * Adds a delivery of each of the next events for every enabled endpoint that subscribes to it, and stores its progress,
   * in one transaction: every event gets its deliveries once, with any number of callers and after a crash. Continues
   * resends (`resendAfter`) in the same way. Does not wait for the disk if a loss repeats the work as a whole.
   * @param limit events; fewer when there are many endpoints, so that a transaction stays short
   * @returns whether there may be more
   */
  fanOut(limit: number): Promise<boolean>
  /**
   * Takes up to `limit` deliveries of an enabled endpoint that are due, the longest due first: counts the attempt, and
   * moves the next one `claim` ms ahead. Does not wait for the disk.
   */
  claimDeliveries(endpointId: string, claim: number, limit: number): Promise<ClaimedDelivery[]>
  /** Time until the next delivery of an enabled endpoint is due, in ms, by endpoint; those without one are not in it. */
  nextDeliveriesIn(): Promise<Map<string, number>>
  /**
   * Stores the result of an attempt, unless the delivery was claimed again or resent since; updates `failingSince` of the
   * endpoint. Does not wait for the disk: a lost result repeats the delivery.
   * @param attempts as claimed
   */
  settleDelivery(endpointId: string, eventId: string, attempts: number, result: AttemptResult): Promise<void>

  deliveries(query: DeliveryQuery): Promise<Delivery[]>
  /**
   * Makes a delivery due now, as if for the first time, whether the event had one or not.
   * @returns undefined if the event was deleted and there is no delivery with a body of its own, or no such endpoint
   */
  resend(endpointId: string, eventId: string): Promise<Delivery | undefined>
  /**
   * Lets `fanOut` do the same with every event of the endpoint from a time until now, once the endpoint is enabled. A
   * second call before the end starts again, from the earlier of both times.
   * @param since ms since the epoch
   */
  resendAfter(endpointId: string, since: number): Promise<void>
  /** Adds a delivery of an own event. */
  addDelivery(endpointId: string, event: OwnEvent): Promise<Delivery>
  /** Age of the oldest event whose delivery to an enabled endpoint is pending, in ms. */
  oldestPendingDelivery(): Promise<number | undefined>
  /**
   * Deletes up to `limit` deliveries that ended more than `age` ms ago, or whose endpoint is gone. Does not wait for the
   * disk.
   * @returns the number of deleted rows
   */
  expireDeliveries(age: number, limit: number): Promise<number>
}
