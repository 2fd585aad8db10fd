import type { Dispatcher } from 'undici'
import { deliver, deliveryFailures } from '../outbound/delivery.ts'
import type { Log } from '../platform/tools.ts'
import type { VideoEvent } from '../publication/events.ts'
import { iso } from '../publication/iso.ts'
import type { VideoStore } from '../publication/store.ts'
import { storeResult } from '../publication/store-retry.ts'
import type { ClaimedDelivery, WebhookEndpoint } from '../publication/webhooks.ts'
import { ownEvent } from './own-events.ts'

/** Outcome of an attempt; also the label of the metric. `expired`: the event was deleted before it was delivered. */
export const deliveryOutcomes = ['delivered', ...deliveryFailures, 'expired'] as const
export type DeliveryOutcome = (typeof deliveryOutcomes)[number]
export const disabledReasons = ['gone', 'failing'] as const satisfies WebhookEndpoint['disabledReason'][]
export type DisabledReason = (typeof disabledReasons)[number]

/** Gets the results of deliveries, for the metrics. */
export interface DeliveryObserver {
  deliveryAttempted(attempt: { outcome: DeliveryOutcome; seconds: number }): void
  /** The last attempt of a delivery has failed. */
  deliveryAbandoned(): void
  endpointDisabled(reason: DisabledReason): void
}

/** Dependencies and settings of an attempt. Times in ms. */
export interface DeliveryContext {
  store: VideoStore
  dispatcher: Dispatcher
  /** Returns the event as JSON, as in the feed. */
  render(event: VideoEvent): string
  /** Returns the secrets that sign a message at this time. @param now in ms since the epoch */
  secretsOf(endpoint: WebhookEndpoint, now: number): string[]
  userAgent: string
  observer: DeliveryObserver
  log: Log
  /** Time for a whole exchange. */
  exchange: number
  /** Returns the time until the next attempt; undefined after the last one. */
  retryIn(attempts: number, retryAfter: number | undefined): number | undefined
  /** Time without a success after which an endpoint is disabled. */
  failingLimit: number
  /** Aborts the exchange when the process ends. */
  signal: AbortSignal
  /** Reports that there is something to deliver, or that an endpoint has changed. */
  changed(): void
}

/**
 * Delivers once and stores the result. A delivery that is aborted at the end of the process has no result: another
 * process repeats it when the claim expires.
 * @throws GatewayError `store-unavailable`: the delivery is repeated then
 */
export async function attemptDelivery(
  context: DeliveryContext,
  endpoint: WebhookEndpoint,
  claimed: ClaimedDelivery,
): Promise<void> {
  const { store, observer, signal, retryIn } = context
  const begun = performance.now()
  const result = await exchange(context, endpoint, claimed)
  if (signal.aborted && result.failure !== undefined) return
  const { failure, status, response, retryAfter } = result
  observer.deliveryAttempted({
    outcome: failure ?? 'delivered',
    seconds: (performance.now() - begun) / 1000,
  })
  const isOver = failure === undefined || failure === 'expired'
  const next = isOver ? undefined : retryIn(claimed.attempts, retryAfter)
  if (failure !== undefined && next === undefined) observer.deliveryAbandoned()
  await storeResult({ signal }, () =>
    store.settleDelivery(claimed.endpointId, claimed.eventId, claimed.attempts, {
      responseStatus: status,
      failure,
      response,
      retryIn: next,
    }),
  )
  reportTrouble(context, endpoint, failure)
  if (failure === 'gone') await disable(context, endpoint, 'gone')
  else if (!isOver && hasFailedLong(endpoint, store.now(), context))
    await disable(context, endpoint, 'failing')
}

/** Logs the first failures of an endpoint, and the first success after them. Its URL may hold a secret. */
function reportTrouble(
  { log }: DeliveryContext,
  { id, failingSince }: WebhookEndpoint,
  failure?: string,
): void {
  if (failure !== undefined && failingSince === null)
    log.warn({ endpoint: id, failure }, 'a delivery to a webhook endpoint failed; retrying')
  if (failure === undefined && failingSince !== null)
    log.info({ endpoint: id }, 'a webhook endpoint accepts deliveries again')
}

async function exchange(context: DeliveryContext, endpoint: WebhookEndpoint, claimed: ClaimedDelivery) {
  const { store, dispatcher, userAgent, signal, render, secretsOf } = context
  const { event } = claimed
  const now = store.now()
  if (event === null)
    return { failure: 'expired' as const, status: null, response: null, retryAfter: undefined }
  const message = {
    id: claimed.eventId,
    url: endpoint.url,
    body: typeof event === 'string' ? event : render(event),
    secrets: secretsOf(endpoint, now),
  }
  return deliver(message, { dispatcher, now, userAgent, signal, timeout: context.exchange })
}

function hasFailedLong(
  { failingSince }: WebhookEndpoint,
  now: number,
  { failingLimit }: Pick<DeliveryContext, 'failingLimit'>,
): boolean {
  return failingSince !== null && now - failingSince >= failingLimit
}

/** Disables the endpoint, unless it has changed since the delivery began, and notifies the other endpoints. */
async function disable(
  context: DeliveryContext,
  { id, version }: WebhookEndpoint,
  reason: DisabledReason,
): Promise<void> {
  const { store, observer, log, signal } = context
  let isDisabled = false
  const change = (current: WebhookEndpoint, now: number): WebhookEndpoint => {
    const isSame = current.enabled && current.version === version
    isDisabled = isSame && (reason === 'gone' || hasFailedLong(current, now, context))
    return isDisabled ? { ...current, enabled: false, disabledReason: reason, updatedAt: now } : current
  }
  const changed = await storeResult({ signal }, () =>
    store.updateEndpoint(id, change, (endpoint) =>
      ownEvent('webhook.disabled', endpoint, endpoint.updatedAt),
    ),
  )
  if (!changed || !isDisabled) return
  observer.endpointDisabled(reason)
  // The URL may contain a secret.
  log.warn(
    { endpoint: id, reason, failingSince: iso(changed.failingSince) },
    'a webhook endpoint was disabled',
  )
  context.changed()
}
