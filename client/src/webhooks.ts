import type {
  CreateWebhookData,
  DeleteWebhookData,
  Delivery,
  GetWebhookData,
  ListDeliveriesData,
  ListDeliveriesResponse,
  ListWebhooksData,
  ListWebhooksResponse,
  RenewWebhookSecretData,
  ResendEventData,
  ResendEventsData,
  TestWebhookData,
  UpdateWebhookData,
  Webhook,
  WebhookWithSecret,
} from './generated/types.gen.ts'
import type { Http } from './http.ts'

interface CallOptions {
  signal?: AbortSignal | undefined
}

/** The endpoints that the gateway calls when something happens. Errors are those of `VideoGateway`. */
export class WebhookEndpoints {
  readonly #http: Http

  constructor(http: Http) {
    this.#http = http
  }

  /** Store the `secret` for `verifyWebhook`: no other call returns it. */
  create(endpoint: CreateWebhookData['body'], { signal }: CallOptions = {}): Promise<WebhookWithSecret> {
    const request = { body: endpoint, signal }
    return this.#http.json<CreateWebhookData, WebhookWithSecret>('POST', '/v1/webhooks', request)
  }

  async list({ signal }: CallOptions = {}): Promise<Webhook[]> {
    const url = '/v1/webhooks'
    return (await this.#http.json<ListWebhooksData, ListWebhooksResponse>('GET', url, { signal })).items
  }

  get(id: string, { signal }: CallOptions = {}): Promise<Webhook> {
    const request = { path: { id }, signal }
    return this.#http.json<GetWebhookData, Webhook>('GET', '/v1/webhooks/{id}', request)
  }

  update(id: string, change: UpdateWebhookData['body'], { signal }: CallOptions = {}): Promise<Webhook> {
    const request = { path: { id }, body: change, signal }
    return this.#http.json<UpdateWebhookData, Webhook>('PATCH', '/v1/webhooks/{id}', request)
  }

  async remove(id: string, { signal }: CallOptions = {}): Promise<void> {
    const request = { path: { id }, signal }
    await this.#http.call<DeleteWebhookData>('DELETE', '/v1/webhooks/{id}', request)
  }

  /** Returns a new secret. The one before it signs too, for a day. */
  renewSecret(id: string, { signal }: CallOptions = {}): Promise<WebhookWithSecret> {
    const url = '/v1/webhooks/{id}/secret'
    return this.#http.json<RenewWebhookSecretData, WebhookWithSecret>('POST', url, { path: { id }, signal })
  }

  /** Sends an event of the type `webhook.test`. */
  test(id: string, { signal }: CallOptions = {}): Promise<Delivery> {
    const url = '/v1/webhooks/{id}/test'
    return this.#http.json<TestWebhookData, Delivery>('POST', url, { path: { id }, signal })
  }

  /** Newest event first; `nextCursor` of a page is the `cursor` of the next. */
  deliveries(
    id: string,
    query: ListDeliveriesData['query'] = {},
    { signal }: CallOptions = {},
  ): Promise<ListDeliveriesResponse> {
    const request = { path: { id }, query, signal }
    const url = '/v1/webhooks/{id}/deliveries'
    return this.#http.json<ListDeliveriesData, ListDeliveriesResponse>('GET', url, request)
  }

  /** Sends one event again. */
  resend(id: string, event: string, { signal }: CallOptions = {}): Promise<Delivery> {
    const url = '/v1/webhooks/{id}/deliveries/{event}/resend'
    return this.#http.json<ResendEventData, Delivery>('POST', url, { path: { id, event }, signal })
  }

  /** Sends every event since a time again. */
  async resendSince(id: string, since: Date, { signal }: CallOptions = {}): Promise<void> {
    const request = { path: { id }, body: { since: since.toISOString() }, signal }
    await this.#http.call<ResendEventsData>('POST', '/v1/webhooks/{id}/deliveries/resend', request)
  }
}
