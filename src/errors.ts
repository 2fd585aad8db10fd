/**
 * Every failure the gateway can report, in one table: the stable code, its HTTP status and its title.
 * The table is the single source for responses, for the pages under `/problems/{code}` and for the docs.
 */
export const problems = {
  'invalid-request': { status: 400, title: 'The request is not valid' },
  'incomplete-upload': {
    status: 400,
    title: 'The upload is empty, was cut short, or its length does not match',
  },
  unauthorized: { status: 401, title: 'A valid bearer token is needed' },
  'invalid-signature': { status: 401, title: 'The signature of the webhook is not valid' },
  'insufficient-scope': { status: 403, title: 'The token does not carry the scope that this call needs' },
  'not-found': { status: 404, title: 'There is nothing at this path' },
  'video-not-found': { status: 404, title: 'No video has this id' },
  'method-not-allowed': { status: 405, title: 'This path does not support the method' },
  'request-timeout': { status: 408, title: 'The request did not arrive in time' },
  'upload-timeout': { status: 408, title: 'No byte of the body arrived in time' },
  'upload-in-progress': { status: 409, title: 'The video is being uploaded' },
  'content-already-uploaded': { status: 409, title: 'The video already has its content' },
  'video-not-ready': { status: 409, title: 'The video is not ready' },
  'idempotency-key-in-progress': {
    status: 409,
    title: 'The first request with this Idempotency-Key is under way',
  },
  'video-deleted': { status: 410, title: 'The video was deleted' },
  'cursor-expired': { status: 410, title: 'The cursor is not of the events that are kept' },
  'length-required': { status: 411, title: 'The platform needs the length of the content beforehand' },
  'content-too-large': { status: 413, title: 'The content is too large' },
  'unsupported-media-type': { status: 415, title: 'The media type or the content is not supported' },
  'platform-rejected': { status: 422, title: 'The video platform refused what was sent' },
  'idempotency-key-reused': { status: 422, title: 'The Idempotency-Key was used with another request' },
  'too-many-requests': { status: 429, title: 'Too many requests' },
  'headers-too-large': { status: 431, title: 'The header fields are too large' },
  'internal-error': { status: 500, title: 'The gateway failed' },
  'platform-protocol-error': { status: 502, title: 'The video platform gave an answer that makes no sense' },
  'platform-unauthorized': { status: 502, title: 'The video platform refused our credentials' },
  'platform-throttled': { status: 503, title: 'The video platform throttles' },
  'issuer-unavailable': { status: 503, title: 'The issuer of the access token is unavailable' },
  'platform-unavailable': { status: 503, title: 'The video platform is out of reach' },
  'store-unavailable': { status: 503, title: 'The store is out of reach' },
  'too-many-streams': { status: 503, title: 'This process has too many event streams' },
  'shutting-down': { status: 503, title: 'The gateway is shutting down' },
  'platform-timeout': { status: 504, title: 'The video platform did not answer in time' },
} as const satisfies Record<string, { status: number; title: string }>

export type ProblemCode = keyof typeof problems

/** What to do about a problem for which there is nothing more precise to say. */
const advice: Partial<Record<ProblemCode, string>> = {
  'invalid-request': 'The request could not be read. `/openapi.json` describes what each call accepts.',
  unauthorized: 'Send `Authorization: Bearer TOKEN` with an API key or an access token.',
  'invalid-signature':
    'Configure the secret of this webhook on the platform and in the gateway, and keep both clocks right. The log of the gateway has the reason under the requestId.',
  'not-found': 'No call has this path. `/openapi.json` lists all of them.',
  'video-not-found': 'Use the `id` that was returned when the video was created.',
  'video-deleted': 'It cannot be restored. Create a new video.',
  'content-already-uploaded': 'Content cannot be replaced. Create a new video.',
  'upload-in-progress': 'Wait until that upload has ended: `/v1/videos/{id}/status` tells its progress.',
  'idempotency-key-in-progress': 'Send the request again after the time in Retry-After to get its response.',
  'idempotency-key-reused': 'Use a new key for each request, and the same key only to repeat that request.',
  'headers-too-large': 'The header fields, cookies and path included, may have at most 16 KiB.',
  'internal-error': 'The log of the gateway has the cause under the requestId.',
  'store-unavailable':
    'The gateway cannot use its database at the moment. Send the request again after the time in Retry-After. The gateway itself finishes or undoes what it may have begun.',
  'cursor-expired':
    'Events after this cursor were deleted, or it is of another database. List the videos to learn their state, then read events without a cursor.',
  'too-many-streams':
    'Connect again after the time in Retry-After: another process may have room. Or read the events as JSON pages.',
  'shutting-down':
    'This process ends and has not begun the request. Send it again after the time in Retry-After: another process responds.',
}

export interface ProblemOptions {
  /** One field that is wrong each; `path` is a JSON pointer into the body, or the name of a parameter. */
  errors?: { path: string; message: string }[]
  /** Seconds after which a retry makes sense; becomes `Retry-After` (RFC 9110 §10.2.3). */
  retryAfter?: number
  cause?: unknown
}

/** @returns what to do about a problem of this kind; undefined where the `detail` of each one says it */
export function adviceOn(code: ProblemCode): string | undefined {
  return advice[code]
}

/** A failure with a stable code. `detail` is shown to the caller: no secret, path or vendor's body in it. */
export class GatewayError extends Error {
  override readonly name = 'GatewayError'
  readonly code: ProblemCode
  readonly errors: ProblemOptions['errors']
  readonly retryAfter: number | undefined

  constructor(code: ProblemCode, detail?: string, options: ProblemOptions = {}) {
    super(detail ?? describe(options.errors) ?? advice[code] ?? problems[code].title, {
      cause: options.cause,
    })
    this.code = code
    this.errors = options.errors
    this.retryAfter = options.retryAfter
  }
}

/** The wrong fields as a sentence each: the first few, for a reader who sees nothing but `detail`. */
function describe(errors: ProblemOptions['errors']): string | undefined {
  return errors
    ?.slice(0, 3)
    .map(({ path, message }) => `${path.slice(0, 100) || 'The body'} ${message}.`)
    .join(' ')
}
