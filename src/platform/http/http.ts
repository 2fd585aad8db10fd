import { setTimeout as sleep } from 'node:timers/promises'
import type { Static, TSchema } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { GatewayError } from '../../errors.ts'
import { CircuitOpenError } from '../platform.ts'
import type { PlatformTools } from '../tools.ts'
import { type CircuitCall, createCircuit } from './circuit.ts'
import { withDeadline } from './deadline.ts'
import { createExchange } from './exchange.ts'
import { CredentialsRejectedError, isThrottled, isTransient } from './failures.ts'
import { kindOf, type PlatformRequest, type PlatformResponse, policies } from './request.ts'
import { publicUrl, trustedUrl } from './upload-url.ts'

/** How a platform wants to be authorized. */
export interface Authorization {
  /** @returns the value of the `Authorization` header */
  header(): Promise<string>
  /** The platform answered 401 to this header: the next one has to be new. @returns false when there is no other yet */
  invalidate(header: string): boolean
}

export interface PlatformHttp {
  /**
   * Sends a request and reads the response, within `timeouts.whole`, or `timeouts.afterUpload` for content.
   * @throws GatewayError with a `platform-…` code, VideoMissingError for 404 and 410
   */
  send(request: PlatformRequest): Promise<PlatformResponse>
  /** Sends a request and validates the JSON answer; what does not fit is a `platform-protocol-error`. */
  json<T extends TSchema>(schema: T, request: PlatformRequest): Promise<Static<T>>
  /** A URL that the platform gave, if it may be used: see {@link trustedUrl}. */
  uploadUrl(url: string): string
  /** A URL that the platform gave, if clients may get it: see {@link publicUrl}. */
  publicUrl(url: string): string
  close(): Promise<void>
}

export interface PlatformHttpOptions {
  name: string
  baseUrl: string
  authorization: Authorization
  /** Hosts beside the base origin that uploads may go to and images come from; `*.example.com` is any host below. */
  uploadHosts?: readonly string[]
  /** The platform's own header for what `Retry-After` says of a 429, in lower case. */
  resetHeader?: string
  tools: PlatformTools
}

/** A longer `Retry-After` is left to the client, or the poller. */
const maxCallRetryAfterMs = 5_000

/**
 * The one way adapters speak HTTP: pools, deadlines, retries, circuit breaker, and the mapping of failures. Token
 * requests and images go through it as well.
 */
export function createPlatformHttp(options: PlatformHttpOptions): PlatformHttp {
  const { name, authorization, tools } = options
  const base = apiUrl(options.baseUrl, '')
  const exchange = createExchange(name, tools, options.resetHeader)
  const circuit = createCircuit(name, tools)

  async function send(asked: PlatformRequest): Promise<PlatformResponse> {
    const request = { ...asked, url: apiUrl(options.baseUrl, asked.url).href }
    const { limit, canBeTrial, repeatable } = policies[kindOf(request)]
    // The circuit has to tell a call that its caller cut from one that the platform let run into the deadline.
    const circuitCall = { signal: asked.signal, canBeTrial }
    if (!repeatable) return sendOnce(request, circuitCall)
    return withDeadline(name, tools.timeouts[limit], asked.signal, (signal) =>
      sendCall({ ...request, signal }, circuitCall),
    )
  }

  /** A request whose body, if it has any, is in memory: repeated if that does no harm, as after a 429 for any method. */
  async function sendCall(request: PlatformRequest, circuitCall: CircuitCall): Promise<PlatformResponse> {
    const repeatable = request.idempotent ?? ['GET', 'HEAD', 'DELETE'].includes(request.method)
    for (let attempt = 1; ; attempt++) {
      try {
        return await sendAuthorized(request, circuitCall)
      } catch (error) {
        const delay = retryDelay(error, attempt)
        const retries = repeatable || isThrottled(error) ? tools.retries : 0
        const permanent = !isTransient(error) || error instanceof CircuitOpenError
        if (attempt > retries || permanent || delay > maxCallRetryAfterMs) throw error
        await sleep(delay, undefined, { signal: request.signal }).catch(() => request.signal.throwIfAborted())
      }
    }
  }

  /** Sends a call, and once more with new credentials when the platform says 401. */
  async function sendAuthorized(
    request: PlatformRequest,
    circuitCall: CircuitCall,
  ): Promise<PlatformResponse> {
    const call = (header?: string) => circuit(() => exchange.send(request, header), circuitCall)
    const header = await headerFor(request)
    try {
      return await call(header)
    } catch (error) {
      if (!dropRejected(header, error)) throw error
      return call(await headerFor(request))
    }
  }

  /** Sends a stream: what was read of it is gone. */
  async function sendOnce(request: PlatformRequest, circuitCall: CircuitCall): Promise<PlatformResponse> {
    const header = await withDeadline(name, tools.timeouts.whole, request.signal, () => headerFor(request))
    try {
      return await circuit(() => exchange.send(request, header), circuitCall)
    } catch (error) {
      // At least the next one shall have other credentials.
      dropRejected(header, error)
      throw error
    }
  }

  /**
   * None for another origin, or where the URL is authority enough. It is got outside of the circuit: a login may use
   * this same HTTP, and must not be refused because of the trial that waits for it.
   */
  async function headerFor(request: PlatformRequest): Promise<string | undefined> {
    const ours = new URL(request.url).origin === base.origin
    return ours && request.authorized !== false ? authorization.header() : undefined
  }

  /** Drops credentials that were refused. @returns whether there are others */
  function dropRejected(header: string | undefined, error: unknown): boolean {
    const rejected = header !== undefined && error instanceof CredentialsRejectedError
    return rejected && authorization.invalidate(header)
  }

  return {
    send,

    async json(schema, request) {
      const { body } = await send(request)
      return parseJson(name, schema, body)
    },

    uploadUrl: (text) => trustedUrl(name, text, base, options.uploadHosts ?? []),
    publicUrl: (text) => publicUrl(name, text, base),
    close: exchange.close,
  }
}

/**
 * Where a path of an API is: below its base URL, and below the path of that, with a leading slash or without. What is
 * absolute stays as it is. URLs that a platform gives are another matter, see {@link PlatformHttp.uploadUrl}.
 */
export function apiUrl(baseUrl: string, path: string): URL {
  return new URL(path.replace(/^\/+/, ''), baseUrl.endsWith('/') ? baseUrl : `${baseUrl}/`)
}

/** Parses and validates a platform's JSON; unknown fields are fine, missing or mistyped ones are not. */
export function parseJson<T extends TSchema>(platform: string, schema: T, body: Buffer): Static<T> {
  let value: unknown
  try {
    value = JSON.parse(body.toString('utf8'))
  } catch (cause) {
    throw new GatewayError('platform-protocol-error', `${platform} returned a body that is not JSON`, {
      cause,
    })
  }
  if (Value.Check(schema, value)) return value
  const path = Value.Errors(schema, value).First()?.path || '/'
  throw new GatewayError(
    'platform-protocol-error',
    `${platform} returned JSON that does not match the schema at ${path}`,
  )
}

/** Milliseconds before the next attempt: what the platform asked for, else 200, 400, 800 … */
function retryDelay(error: unknown, attempt: number): number {
  const asked = error instanceof GatewayError ? error.retryAfter : undefined
  return asked === undefined ? 100 * 2 ** attempt : asked * 1000
}
