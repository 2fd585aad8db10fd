import type { TObject } from '@sinclair/typebox'
import type { VideoPlatform } from './platform.ts'

/** The methods of a logger that adapters use; pino's logger has them. */
export interface Log {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** Open: nothing is sent. Half-open: one short call at a time tries whether the platform is back. */
export type CircuitState = 'closed' | 'half-open' | 'open'

/** Gets the result of every call to a platform, for the metrics. */
export interface PlatformObserver {
  call(call: { platform: string; operation: string; outcome: string; seconds: number }): void
  circuit(platform: string, state: CircuitState): void
  tokenRequest(platform: string, outcome: 'ok' | 'failed'): void
}

/** What the gateway passes to every adapter. Times in ms. */
export interface PlatformTools {
  log: Log
  observer: PlatformObserver
  /** Headers that put a call into the trace of the request that caused it (W3C Trace Context), if there is one. */
  traceHeaders(): Record<string, string> | undefined
  timeouts: {
    connect: number
    /** For the headers of a response, and between two pieces of its body. */
    answer: number
    /**
     * For a call as a whole, from its start to the last byte of the response: with its retries, the waits between
     * them and a new token. Has to be shorter than the claim on a row (60 s).
     */
    whole: number
    /**
     * From the last byte of an upload to the last byte of the response. A chunk, which is sent from memory, has this
     * time as a whole.
     */
    afterUpload: number
  }
  /** How often an idempotent call is repeated after it failed. */
  retries: number
  /** How often a chunk of an upload is tried, and the delay after the first failure; both have their defaults. */
  chunks?: { attempts: number; firstDelay: number }
  /** Pauses after each search for a creation whose response was lost, unless the vendor requires longer ones. */
  settles: readonly number[]
  /** Number of failed calls that opens the circuit; a trial follows after `halfOpenAfter`. See `circuit.ts`. */
  circuit: { failures: number; halfOpenAfter: number }
}

/** A platform as the registry knows it. */
export interface PlatformDefinition {
  name: string
  /** Its environment variables. A missing one without a default prevents startup. */
  variables: TObject
  create(variables: never, tools: PlatformTools): VideoPlatform
}

export const defaultTools = {
  traceHeaders: () => undefined,
  timeouts: { connect: 5_000, answer: 15_000, whole: 30_000, afterUpload: 300_000 },
  retries: 2,
  settles: [60_000, 300_000, 1_800_000],
  circuit: { failures: 8, halfOpenAfter: 10_000 },
} satisfies Partial<PlatformTools>
