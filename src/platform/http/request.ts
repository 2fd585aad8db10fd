import { Readable } from 'node:stream'

/** A request to a platform. */
export interface PlatformRequest {
  /** The purpose of the call; a label of the metrics. */
  operation: string
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE' | 'HEAD'
  /** Absolute, or relative to the platform's base URL. */
  url: string
  headers?: Record<string, string>
  /** Sent as JSON. */
  json?: unknown
  /** Sent as it is; its type decides how: see {@link kindOf}. */
  body?: string | Uint8Array | Readable
  /** Exact length of a stream, in bytes; without it the stream goes out chunked. */
  length?: number | null
  /** False keeps the Authorization header back, as for a signed upload URL. */
  authorized?: boolean
  /** Whether a failed call may be repeated; GET, HEAD and DELETE are by default (RFC 9110 §9.2.2). */
  idempotent?: boolean
  /** Statuses from 400 on that are a response and not a failure. */
  accept?: readonly number[]
  signal: AbortSignal
}

/** A call has a small body or none, a chunk is a part of the content in memory, a stream is content that passes through. */
export type Kind = 'call' | 'chunk' | 'stream'

interface Policy {
  /** Name of the timeout for the whole exchange, retries included; for a stream, from its last byte on. */
  limit: 'whole' | 'afterUpload'
  /** Name of the timeout from the last byte of the request to the headers of the response; null where `limit` says it. */
  headers: 'answer' | 'afterUpload' | null
  /** Whether it may be the call that tries a platform whose circuit was open: content takes as long as it takes. */
  canBeTrial: boolean
  /** False where a second attempt would have nothing left to send. */
  repeatable: boolean
}

export const policies: Record<Kind, Policy> = {
  call: { limit: 'whole', headers: 'answer', canBeTrial: true, repeatable: true },
  // A chunk takes its time on the way, and the platform its time to process the last one.
  chunk: { limit: 'afterUpload', headers: 'afterUpload', canBeTrial: false, repeatable: true },
  stream: { limit: 'afterUpload', headers: null, canBeTrial: false, repeatable: false },
}

export function kindOf({ body }: PlatformRequest): Kind {
  if (body instanceof Uint8Array) return 'chunk'
  return body instanceof Readable ? 'stream' : 'call'
}

/** A response that the platform gave its consent with. */
export interface PlatformResponse {
  status: number
  headers: Record<string, string | string[] | undefined>
  body: Buffer
}
