import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Static, TSchema } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { Agent, request as dispatch } from 'undici'
import { GatewayError } from '../errors.ts'
import { traceHeaders } from '../tracing.ts'
import { createCircuit } from './circuit.ts'
import { CredentialsRefusedError, failureOf, isPassing, refusalOf } from './failures.ts'
import type { PlatformTools } from './tools.ts'
import { trustedUrl } from './upload-url.ts'

/** How a platform wants to be authorized. */
export interface Authorization {
  /** @returns the value of the `Authorization` header */
  header(): Promise<string>
  /** The platform answered 401 to this header: the next one has to be new. @returns false when there is no other */
  refused(header: string): boolean
}

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

export interface PlatformAnswer {
  status: number
  headers: Record<string, string | string[] | undefined>
  body: Buffer
}

export interface PlatformHttp {
  /** Sends a request. @throws GatewayError with a `platform-…` code, VideoMissingError for 404 and 410 */
  send(request: PlatformRequest): Promise<PlatformAnswer>
  /** Sends a request and validates the JSON answer; what does not fit is a `platform-protocol-error`. */
  json<T extends TSchema>(schema: T, request: PlatformRequest): Promise<Static<T>>
  /** A URL that the platform gave, if it may be used: see {@link trustedUrl}. */
  uploadUrl(url: string): string
  close(): Promise<void>
}

export interface PlatformHttpOptions {
  name: string
  baseUrl: string
  authorization: Authorization
  /** Hosts beside the base origin that uploads may go to and images come from; `*.example.com` is any host below. */
  uploadHosts?: readonly string[]
  tools: PlatformTools
}

/** No answer of an API is larger; undici stops reading there. */
const maxAnswerBytes = 4 * 1024 * 1024
/** A longer wait is the caller's (or the poller's) to plan. Milliseconds. */
const longestRetryAfter = 5_000

/** The one way adapters speak HTTP: pool, timeouts, retries, circuit breaker, and the mapping of failures. */
export function createPlatformHttp(options: PlatformHttpOptions): PlatformHttp {
  const { name, authorization, tools } = options
  const { timeouts } = tools
  const base = new URL(options.baseUrl.endsWith('/') ? options.baseUrl : `${options.baseUrl}/`)
  const agent = new Agent({
    connect: { timeout: timeouts.connect },
    headersTimeout: timeouts.answer,
    bodyTimeout: timeouts.answer,
    maxResponseSize: maxAnswerBytes,
  })
  // A stream cannot be sent twice, so it must not meet a kept connection that the platform is just closing.
  const streamAgent = new Agent({
    connect: { timeout: timeouts.connect },
    bodyTimeout: timeouts.answer,
    headersTimeout: 0,
    maxResponseSize: maxAnswerBytes,
    pipelining: 0,
  })

  const circuit = createCircuit(name, tools)

  /** One attempt. A stream's progress is watched by who made it; here only the wait for the answer is. */
  async function attempt(request: PlatformRequest, url: URL, authorizationHeader: string | undefined) {
    const started = performance.now()
    let outcome = 'ok'
    const stream = isStream(request.body) ? request.body : undefined
    const patience = stream && waitAfterEnd(stream, timeouts.afterUpload)
    try {
      const response = await dispatch(url, {
        dispatcher: stream ? streamAgent : agent,
        method: request.method,
        headers: { ...traceHeaders(), ...headersOf(request, authorizationHeader) },
        body: request.json === undefined ? (request.body ?? null) : JSON.stringify(request.json),
        signal: patience ? AbortSignal.any([request.signal, patience.signal]) : request.signal,
        // A chunk takes its time on the way, and the last one its time to be taken in.
        ...(request.body instanceof Uint8Array && { headersTimeout: timeouts.afterUpload }),
      })
      const body = Buffer.from(await response.body.arrayBuffer())
      if (response.statusCode >= 300 && !request.accept?.includes(response.statusCode)) {
        outcome = String(response.statusCode)
        throw refusalOf(name, response.statusCode, response.headers)
      }
      return { status: response.statusCode, headers: response.headers, body }
    } catch (error) {
      request.signal.throwIfAborted()
      const failure = failureOf(name, error)
      if (outcome === 'ok') outcome = failure.code
      throw failure
    } finally {
      patience?.clear()
      tools.observer.call({
        platform: name,
        operation: request.operation,
        outcome,
        seconds: (performance.now() - started) / 1000,
      })
    }
  }

  /** Authorizes, and once more with new credentials when the platform says 401. */
  async function authorized(request: PlatformRequest): Promise<PlatformAnswer> {
    const url = new URL(request.url, base)
    if (request.authorized === false || url.origin !== base.origin) return attempt(request, url, undefined)
    const header = await authorization.header()
    try {
      return await attempt(request, url, header)
    } catch (error) {
      if (!(error instanceof CredentialsRefusedError)) throw error
      // A stream that was begun cannot be sent again, but the next call shall have other credentials.
      const renewable = authorization.refused(header)
      if (!renewable || isStream(request.body)) throw error
      return attempt(request, url, await authorization.header())
    }
  }

  async function send(request: PlatformRequest): Promise<PlatformAnswer> {
    const repeatable = request.idempotent ?? ['GET', 'HEAD', 'DELETE'].includes(request.method)
    const retries = repeatable && !isStream(request.body) ? tools.retries : 0
    for (let attempt = 1; ; attempt++) {
      try {
        return await circuit(() => authorized(request), request.signal)
      } catch (error) {
        const delay = retryDelay(error, attempt)
        if (attempt > retries || !isPassing(error) || delay > longestRetryAfter) throw error
        await sleep(delay, undefined, { signal: request.signal }).catch(() => request.signal.throwIfAborted())
      }
    }
  }

  return {
    send,

    async json(schema, request) {
      const { body } = await send(request)
      return parseJson(name, schema, body)
    },

    uploadUrl: (text) => trustedUrl(name, text, base, options.uploadHosts ?? []),

    async close() {
      await Promise.all([agent.destroy(), streamAgent.destroy()])
    },
  }
}

/** Parses and validates a platform's JSON; unknown fields are fine, missing or mistyped ones are not. */
export function parseJson<T extends TSchema>(platform: string, schema: T, body: Buffer): Static<T> {
  let value: unknown
  try {
    value = JSON.parse(body.toString('utf8'))
  } catch (cause) {
    throw new GatewayError('platform-protocol-error', `${platform} answered something else than JSON`, {
      cause,
    })
  }
  if (Value.Check(schema, value)) return value
  const path = Value.Errors(schema, value).First()?.path || '/'
  throw new GatewayError('platform-protocol-error', `${platform} answered JSON that does not fit at ${path}`)
}

function headersOf(request: PlatformRequest, authorization: string | undefined): Record<string, string> {
  return {
    ...(request.json !== undefined && { 'content-type': 'application/json' }),
    ...(typeof request.length === 'number' && { 'content-length': String(request.length) }),
    ...(authorization !== undefined && { authorization }),
    ...request.headers,
  }
}

/** Milliseconds before the next attempt: what the platform asked for, else 200, 400, 800 … */
function retryDelay(error: unknown, attempt: number): number {
  const asked = error instanceof GatewayError ? error.retryAfter : undefined
  return asked === undefined ? 100 * 2 ** attempt : asked * 1000
}

/** A signal that fires when no answer came `ms` after the last byte was sent. */
function waitAfterEnd(stream: Readable, ms: number) {
  const controller = new AbortController()
  let timer: NodeJS.Timeout | undefined
  const start = () => {
    timer = setTimeout(() => controller.abort(new GatewayError('platform-timeout')), ms)
  }
  stream.once('end', start)
  return {
    signal: controller.signal,
    clear() {
      stream.off('end', start)
      clearTimeout(timer)
    },
  }
}

function isStream(body: PlatformRequest['body']): body is Readable {
  return typeof body === 'object' && 'pipe' in body
}
