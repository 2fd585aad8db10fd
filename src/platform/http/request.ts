import type { Readable } from 'node:stream'

/** A request to a platform. */
export interface PlatformRequest {
  /** What it is for, in the contract's words; a label of the metrics. */
  operation: string
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE' | 'HEAD'
  /** Absolute, or relative to the platform's base URL. */
  url: string
  headers?: Record<string, string>
  /** Sent as JSON. */
  json?: unknown
  /** Sent as it is; a stream is sent once and never retried. */
  body?: string | Uint8Array | Readable
  /** Exact length of a stream, in bytes; without it the stream goes out chunked. */
  length?: number | null
  /** False keeps the Authorization header back, as for a signed upload URL. */
  authorized?: boolean
  /** Whether a failed call may be repeated; GET, HEAD and DELETE are by default (RFC 9110 §9.2.2). */
  idempotent?: boolean
  /** Statuses of 400 and above that are an answer and not a failure. */
  accept?: readonly number[]
  signal: AbortSignal
}

/** A response that the platform gave its consent with. */
export interface PlatformResponse {
  status: number
  headers: Record<string, string | string[] | undefined>
  body: Buffer
}
