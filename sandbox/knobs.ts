/** The calls of the platform's API that are counted and can be made to fail. */
export const OPERATIONS = ['token', 'create', 'list', 'get', 'ingest', 'media', 'poster', 'delete'] as const
export type Operation = (typeof OPERATIONS)[number]

/** A fault of the next `times` calls of one operation; without status, hang and reset, only a delay. */
export interface FaultRule {
  operation: Operation
  times: number
  /** Respond with this status, `headers` and `body` (an object is sent as JSON, a string as it is). */
  status?: number
  headers?: Record<string, string>
  body?: unknown
  /** Never respond. Nothing is read for `stall_ms`, 1000 by default; then the body is read and ignored. */
  hang?: boolean
  stall_ms?: number
  /** Reset the connection (TCP); with `status` right after that response, with the rest of the body unread. */
  reset?: boolean
  /** `ingest` only: read this many bytes of the body first. */
  after_bytes?: number
  delay_ms?: number
  /** Do the work before the fault, so that the client does not get the result. */
  late?: boolean
}

/** Behavior of the platform; a change applies from the next call on. */
export interface Knobs {
  /** Time spent in each of `queued` and `transcoding`, before the real work. */
  processing_delay_ms: number
  token_lifetime_s: number
  token_delay_ms: number
  /** Reject chunked uploads with 411. */
  require_length: boolean
  /** Maximum speed of reading uploads; 0 is unlimited. */
  read_bytes_per_second: number
  /** Failure of the next processing. */
  fail_processing: null | { kind: string; text: string }
  /** Count and discard the bytes of uploads, and serve the test pattern instead: for load tests. */
  discard: boolean
  /** Prefix of the names of playlists and posters; a change invalidates the earlier URLs. */
  rename: string
  /** The URLs of playlists and posters are signed and expire after this; 0 is unsigned, forever. */
  url_lifetime_s: number
  /** URL of the webhook for live and failed clips, and the secret of its signature. */
  webhook: null | { url: string; secret: string }
  /** Operations whose responses are held back, after their work, until they are removed from this list. */
  hold: Operation[]
  /** Consumed in order, per operation. */
  faults: FaultRule[]
}

export const defaultKnobs = (): Knobs => ({
  processing_delay_ms: 300,
  token_lifetime_s: 3600,
  token_delay_ms: 0,
  require_length: false,
  read_bytes_per_second: 0,
  fail_processing: null,
  discard: false,
  rename: '',
  url_lifetime_s: 0,
  webhook: null,
  hold: [],
  faults: [],
})

/** Returns and consumes the next fault for a call of `operation`, if any. */
export function takeFault(knobs: Knobs, operation: Operation): FaultRule | undefined {
  const rule = knobs.faults.find((candidate) => candidate.operation === operation && candidate.times > 0)
  if (!rule) return undefined
  rule.times -= 1
  if (rule.times === 0) knobs.faults = knobs.faults.filter((other) => other !== rule)
  return { ...rule }
}

const text = { type: 'string' }
const count = { type: 'number', minimum: 0 }
const flag = { type: 'boolean' }

/** JSON Schema of a partial change of the knobs. */
export const knobsSchema = {
  type: 'object',
  additionalProperties: false,
  properties: {
    processing_delay_ms: count,
    token_lifetime_s: count,
    token_delay_ms: count,
    require_length: flag,
    read_bytes_per_second: count,
    fail_processing: {
      type: ['object', 'null'],
      required: ['kind', 'text'],
      properties: { kind: text, text },
    },
    discard: flag,
    rename: { type: 'string', pattern: '^\\w*$' },
    url_lifetime_s: count,
    webhook: {
      type: ['object', 'null'],
      required: ['url', 'secret'],
      properties: { url: text, secret: text },
    },
    hold: { type: 'array', items: { enum: OPERATIONS } },
    faults: {
      type: 'array',
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['operation', 'times'],
        properties: {
          operation: { enum: OPERATIONS },
          times: { type: 'integer', minimum: 1 },
          status: { type: 'integer', minimum: 200, maximum: 599 },
          headers: { type: 'object', additionalProperties: text },
          body: {},
          hang: flag,
          stall_ms: count,
          reset: flag,
          after_bytes: count,
          delay_ms: count,
          late: flag,
        },
      },
    },
  },
}
