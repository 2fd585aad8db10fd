import { type Content, NotContentError, openContent, type Progress, streamOf } from './content.ts'
import { type EventsOptions, type StreamEventsData, type StreamedEvent, streamEvents } from './events.ts'
import type {
  CreateVideoData,
  DeleteVideoData,
  GetInfoData,
  GetInfoResponse,
  GetStatusData,
  GetStatusResponse,
  GetThumbnailData,
  GetThumbnailResponse,
  GetVideoData,
  ListEventsData,
  ListEventsResponse,
  ListVideosData,
  ListVideosResponse,
  PutContentData,
  Video,
} from './generated/types.gen.ts'
import { createHttp, expand, type Http, type TokenSource } from './http.ts'
import { type WaitOptions, waitUntilReady } from './wait.ts'
import { WebhookEndpoints } from './webhooks.ts'

export interface VideoGatewayOptions {
  /** The gateway's address, without `/v1`. */
  url: string
  /** An API key, or a source of tokens: see `clientCredentials`. */
  token: string | TokenSource
  /** Another implementation of fetch. */
  fetch?: typeof fetch
}

export interface CallOptions {
  signal?: AbortSignal | undefined
}

export interface UploadOptions extends CallOptions {
  /** Called as bytes are sent. */
  onProgress?(progress: Progress): void
}

/**
 * The video gateway's API. Every method throws `GatewayProblem` when the gateway returns an error, and the exception of
 * fetch (a TypeError, or the signal's reason) when there is no response.
 */
export class VideoGateway {
  readonly #http: Http
  readonly webhooks: WebhookEndpoints

  constructor({ url, token, fetch: fetcher = fetch }: VideoGatewayOptions) {
    this.#http = createHttp(url, typeof token === 'string' ? () => token : token, fetcher)
    this.webhooks = new WebhookEndpoints(this.#http)
  }

  /** Provisions a slot. With an idempotency key (up to 255 characters) the call may be repeated without a second one. */
  async create(
    publication: CreateVideoData['body'],
    { idempotencyKey, signal }: CallOptions & { idempotencyKey?: string } = {},
  ): Promise<Video> {
    const headers = { ...(idempotencyKey !== undefined && { 'idempotency-key': idempotencyKey }) }
    const request = { body: publication, headers, signal }
    return this.#http.json<CreateVideoData, Video>('POST', '/v1/videos', request)
  }

  /**
   * Streams the content into the slot; resolves when the platform has all of it. A failed upload can be
   * repeated from its start; a stream must be a new one.
   * @throws also TypeError for invalid content, Error when its file cannot be read
   */
  async upload(id: string, content: Content, { onProgress, signal }: UploadOptions = {}): Promise<void> {
    const url: PutContentData['url'] = '/v1/videos/{id}/content'
    const opened = await openContent(content)
    const { size } = opened
    const sent = this.#http.send('PUT', expand(url, { id }), {
      headers: { 'content-type': 'video/mp4', ...(size !== undefined && { 'content-length': String(size) }) },
      // The DOM's types and Node's do not agree on the stream.
      body: streamOf(opened, onProgress, signal) as never,
      duplex: 'half',
      ...(signal && { signal }),
    })
    // fetch hides an exception of the body behind its own error.
    await sent.catch((error) => {
      throw error?.cause instanceof NotContentError ? error.cause : error
    })
  }

  /**
   * Waits until the video is ready. The gateway holds each response back until there is news.
   * @throws VideoFailedError when the status becomes `error`; the signal's reason; a TimeoutError
   */
  waitUntilReady(id: string, options?: WaitOptions): Promise<GetStatusResponse> {
    return waitUntilReady((signal, wait) => this.#look(id, signal, { prefer: `wait=${wait}` }), options)
  }

  async status(id: string, { signal }: CallOptions = {}): Promise<GetStatusResponse> {
    return (await (await this.#look(id, signal)).json()) as GetStatusResponse
  }

  async get(id: string, { signal }: CallOptions = {}): Promise<Video> {
    return this.#http.json<GetVideoData, Video>('GET', '/v1/videos/{id}', { path: { id }, signal })
  }

  /** Newest first; `nextCursor` of a page is the `cursor` of the next. */
  async list(query: ListVideosData['query'] = {}, { signal }: CallOptions = {}): Promise<ListVideosResponse> {
    return this.#http.json<ListVideosData, ListVideosResponse>('GET', '/v1/videos', { query, signal })
  }

  /** Returns a page of events, oldest first; pass its `nextCursor` as `after` to get the next one, now or later. */
  async listEvents(
    query: ListEventsData['query'] = {},
    { signal }: CallOptions = {},
  ): Promise<ListEventsResponse> {
    return this.#http.json<ListEventsData, ListEventsResponse>('GET', '/v1/events', { query, signal })
  }

  /**
   * Yields events as they happen, without an end, and connects again after every interruption: nothing is missed, and an
   * event may come twice.
   * @throws GatewayProblem that is not transient: `cursor-expired` for an `after` that is too old, 401, 403; the signal's
   * reason
   */
  events(options: EventsOptions = {}): AsyncGenerator<StreamedEvent, void, undefined> {
    return streamEvents((request) => this.#http.call<StreamEventsData>('GET', '/v1/events', request), options)
  }

  /** Launch URL, size and duration, once the video is ready. */
  async info(id: string, { signal }: CallOptions = {}): Promise<GetInfoResponse> {
    const url = '/v1/videos/{id}/info'
    return this.#http.json<GetInfoData, GetInfoResponse>('GET', url, { path: { id }, signal })
  }

  async thumbnail(id: string, { signal }: CallOptions = {}): Promise<GetThumbnailResponse> {
    const url = '/v1/videos/{id}/thumbnail'
    return this.#http.json<GetThumbnailData, GetThumbnailResponse>('GET', url, { path: { id }, signal })
  }

  /** Deletes the video, also from the platform. May be repeated. */
  async remove(id: string, { signal }: CallOptions = {}): Promise<void> {
    await this.#http.call<DeleteVideoData>('DELETE', '/v1/videos/{id}', { path: { id }, signal })
  }

  #look(id: string, signal?: AbortSignal, headers?: GetStatusData['headers']): Promise<Response> {
    const request = { path: { id }, ...(headers && { headers }), signal }
    return this.#http.call<GetStatusData>('GET', '/v1/videos/{id}/status', request)
  }
}
