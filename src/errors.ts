/**
 * Every failure the gateway can report, in one table: the stable code, its HTTP status and its title.
 * The table is the single source for responses, for the pages under `/problems/{code}` and for the docs.
 */
export const problems = {
  'invalid-request': { status: 400, title: 'The request is not valid' },
  'incomplete-upload': {
    status: 400,
    title: 'The upload is empty, incomplete or of the wrong length',
  },
  unauthorized: { status: 401, title: 'A valid bearer token is required' },
  'invalid-signature': { status: 401, title: 'The signature of the webhook is not valid' },
  'insufficient-scope': { status: 403, title: 'The token lacks the required scope' },
  'not-found': { status: 404, title: 'This path does not exist' },
  'video-not-found': { status: 404, title: 'No video has this id' },
  'webhook-not-found': { status: 404, title: 'No webhook endpoint has this id' },
  'event-not-found': { status: 404, title: 'No event has this id' },
  'method-not-allowed': { status: 405, title: 'This path does not support this method' },
  'request-timeout': { status: 408, title: 'The request did not arrive in time' },
  'upload-timeout': { status: 408, title: 'The upload stalled' },
  'upload-in-progress': { status: 409, title: 'Another upload of this video is in progress' },
  'content-already-uploaded': { status: 409, title: 'The video already has its content' },
  'video-not-ready': { status: 409, title: 'The video is not ready' },
  'idempotency-key-in-progress': {
    status: 409,
    title: 'The first request with this Idempotency-Key is still in progress',
  },
  'webhook-disabled': { status: 409, title: 'The webhook endpoint is disabled' },
  'too-many-webhooks': { status: 409, title: 'The gateway has too many webhook endpoints' },
  'video-deleted': { status: 410, title: 'The video was deleted' },
  'cursor-expired': { status: 410, title: 'The cursor has expired' },
  'length-required': { status: 411, title: 'The length of the content is required' },
  'content-too-large': { status: 413, title: 'The content is too large' },
  'unsupported-media-type': { status: 415, title: 'The media type or the content is not supported' },
  'platform-rejected': { status: 422, title: 'The video platform rejected the request' },
  'idempotency-key-reused': {
    status: 422,
    title: 'This Idempotency-Key was already used for a different request',
  },
  'too-many-requests': { status: 429, title: 'Too many requests' },
  'headers-too-large': { status: 431, title: 'The request headers are too large' },
  'internal-error': { status: 500, title: 'Internal error in the gateway' },
  'webhooks-not-configured': { status: 501, title: 'This gateway cannot sign webhooks' },
  'platform-protocol-error': { status: 502, title: 'The video platform returned an unexpected response' },
  'platform-unauthorized': { status: 502, title: "The video platform rejected the gateway's credentials" },
  'platform-throttled': { status: 503, title: 'The video platform is throttling requests' },
  'issuer-unavailable': { status: 503, title: 'The issuer of the access token is unavailable' },
  'platform-unavailable': { status: 503, title: 'The video platform is unavailable' },
  'store-unavailable': { status: 503, title: "The gateway's database is unavailable" },
  'too-many-streams': { status: 503, title: 'This process has too many event streams' },
  'shutting-down': { status: 503, title: 'The gateway is shutting down' },
  'platform-timeout': { status: 504, title: 'The video platform did not respond in time' },
} as const satisfies Record<string, { status: number; title: string }>

export type ProblemCode = keyof typeof problems

/** Advice for each problem: the default `detail`, and the text of the page `/problems/{code}`. */
const advice: Record<ProblemCode, string> = {
  'invalid-request': 'The request could not be read. `/openapi.json` describes what each call accepts.',
  'incomplete-upload': 'Upload the content again from its first byte.',
  unauthorized: 'Send `Authorization: Bearer TOKEN` with an API key or an access token.',
  'invalid-signature':
    'Configure the secret of this webhook on the platform and in the gateway, and keep both clocks right. The log of the gateway has the reason under the requestId.',
  'insufficient-scope': 'Ask the operator for the scope.',
  'not-found': 'No call has this path. `/openapi.json` lists all of them.',
  'video-not-found': 'Use the `id` that was returned when the video was created.',
  'webhook-not-found': 'Check the id: `GET /v1/webhooks` lists the endpoints.',
  'event-not-found':
    'Use an `eventId` from the deliveries of the endpoint, or the `id` of an event that `GET /v1/events` still has.',
  'webhook-disabled': 'Enable the endpoint first, with `PATCH` and `{"enabled": true}`.',
  'too-many-webhooks': 'Delete an endpoint that is no longer used.',
  'webhooks-not-configured':
    'Ask the operator to set GATEWAY_SECRET, from which the secrets of webhooks are derived.',
  'method-not-allowed': 'Use a method from the Allow header.',
  'request-timeout': 'Send the request again.',
  'upload-timeout': 'Upload again, from a faster source if possible.',
  'video-deleted': 'It cannot be restored. Create a new video.',
  'content-already-uploaded': 'Content cannot be replaced. Create a new video.',
  'upload-in-progress':
    'Wait until that upload has ended: `/v1/videos/{id}/status` shows its progress. A video accepts one upload at a time.',
  'video-not-ready': 'Wait until the status of the video is ready.',
  'idempotency-key-in-progress': 'Send the request again after the time in Retry-After to get its response.',
  'idempotency-key-reused': 'Use a new key for each request, and the same key only to repeat that request.',
  'length-required': 'Send Content-Length.',
  'content-too-large': 'Send a smaller body.',
  'unsupported-media-type': 'Send a Content-Type that the call accepts.',
  'platform-rejected': 'Check title, description and file against the limits of the platform.',
  'too-many-requests': 'Retry when Retry-After has passed.',
  'headers-too-large': 'Send at most 16 KiB of headers, cookies and path included.',
  'internal-error':
    'Send the request again once. If it fails again, send the operator the requestId: the log of the gateway has the cause.',
  'platform-protocol-error': 'Retry later. If the error persists, tell the operator.',
  'platform-unauthorized': 'Tell the operator.',
  'platform-throttled': 'Retry when Retry-After has passed.',
  'issuer-unavailable':
    'The issuer of the access token cannot be reached. Retry when Retry-After has passed.',
  'platform-unavailable': 'Retry when Retry-After has passed.',
  'platform-timeout': 'Retry later; retry a creation with the same Idempotency-Key.',
  'store-unavailable':
    'The gateway cannot use its database at the moment. Send the request again after the time in Retry-After. The gateway completes or undoes on its own what it may have begun.',
  'cursor-expired':
    'Events after this cursor were deleted, or it is beyond the last event, as after a restore. List the videos to learn their state, then read events without a cursor.',
  'too-many-streams':
    'Connect again after the time in Retry-After: another process may have room. Or read the events as JSON pages.',
  'shutting-down':
    'This process is ending and has not begun the request. Send it again on a new connection after the time in Retry-After.',
}

export interface ProblemOptions {
  /** One entry per invalid field; `path` is a JSON pointer into the body, or the name of a parameter. */
  errors?: { path: string; message: string }[]
  /** Seconds after which a retry makes sense; becomes `Retry-After` (RFC 9110 §10.2.3). */
  retryAfter?: number
  cause?: unknown
}

/** Returns what to do about a problem of this kind. */
export function adviceOn(code: ProblemCode): string {
  return advice[code]
}

/** A failure with a stable code. `detail` is shown to the client: no secret, path or vendor's body in it. */
export class GatewayError extends Error {
  override readonly name = 'GatewayError'
  readonly code: ProblemCode
  readonly errors: ProblemOptions['errors']
  readonly retryAfter: number | undefined

  constructor(code: ProblemCode, detail?: string, options: ProblemOptions = {}) {
    super(detail ?? describe(options.errors) ?? advice[code], {
      cause: options.cause,
    })
    this.code = code
    this.errors = options.errors
    this.retryAfter = options.retryAfter
  }
}

/** Returns one sentence per invalid field, for the first few: some clients show only `detail`. */
function describe(errors: ProblemOptions['errors']): string | undefined {
  return errors
    ?.slice(0, 3)
    .map(({ path, message }) => `${path.slice(0, 100) || 'The body'} ${message}.`)
    .join(' ')
}
