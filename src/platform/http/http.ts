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

/** Supplies the credentials of a platform. */
export interface Authorization {
  /** @returns the value of the `Authorization` header */
  header(): Promise<string>
  /** Reports a 401 for this header: the next one must be new. @returns false if there is no other yet */
  invalidate(header: string): boolean
}

export interface PlatformHttp {
  /**
   * Sends a request and reads the response, within `timeouts.whole`, or `timeouts.afterUpload` for content.
   * @throws GatewayError with a `platform-…` code, VideoMissingError for 404 and 410
   */
  send(request: PlatformRequest): Promise<PlatformResponse>
  /** Sends a request and validates the JSON response. @throws `platform-protocol-error` if it does not match */
  json<T extends TSchema>(schema: T, request: PlatformRequest): Promise<Static<T>>
  /** Returns a URL from the platform, if the gateway may call it: see {@link trustedUrl}. */
  uploadUrl(url: string): string
  /** Returns a URL from the platform, if clients may get it: see {@link publicUrl}. */
  publicUrl(url: string): string
  close(): Promise<void>
}

export interface PlatformHttpOptions {
  name: string
  baseUrl: string
  authorization: Authorization
  /** Hosts, in addition to the base origin, for uploads and images; `*.example.com` is any host below. */
  uploadHosts?: readonly string[]
  /** The platform's own equivalent of `Retry-After` for a 429, in lower case. */
  resetHeader?: string
  tools: PlatformTools
}

/** Longest `Retry-After` that a call waits for; a longer one is passed on to the client or the poller. */
const maxCallRetryAfterMs = 5_000

/**
 * The HTTP client of all adapters: pools, deadlines, retries, circuit breaker and error mapping. Token requests and
 * images go through it as well.
 */
export function createPlatformHttp(options: PlatformHttpOptions): PlatformHttp {
  const { name, authorization, tools } = options
  const base = apiUrl(options.baseUrl, '')
  const exchange = createExchange(name, tools, options.resetHeader)
  const circuit = createCircuit(name, tools)

  async function send(asked: PlatformRequest): Promise<PlatformResponse> {
    const request = { ...asked, url: apiUrl(options.baseUrl, asked.url).href }
    const { limit, canBeTrial, repeatable } = policies[kindOf(request)]
    // The circuit must distinguish a call that its caller aborted from one that exceeded the deadline.
    const circuitCall = { signal: asked.signal, canBeTrial }
    if (!repeatable) return sendOnce(request, circuitCall)
    return withDeadline(name, tools.timeouts[limit], asked.signal, (signal) =>
      sendCall({ ...request, signal }, circuitCall),
    )
  }

  /** Sends a request with its body, if any, in memory: retries it if that is safe, after a 429 for any method. */
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

  /** Sends a call, and once more with new credentials if the platform returns 401. */
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

  /** Sends a stream once: data that was read from it cannot be sent again. */
  async function sendOnce(request: PlatformRequest, circuitCall: CircuitCall): Promise<PlatformResponse> {
    const header = await withDeadline(name, tools.timeouts.whole, request.signal, () => headerFor(request))
    try {
      return await circuit(() => exchange.send(request, header), circuitCall)
    } catch (error) {
      // At least the next call must use new credentials.
      dropRejected(header, error)
      throw error
    }
  }

  /**
   * Returns the header, or none for another origin or a URL that carries its own authority. It is obtained outside the
   * circuit: a login may use this client too, and must not be rejected because of the trial that waits for it.
   */
  async function headerFor(request: PlatformRequest): Promise<string | undefined> {
    const ours = new URL(request.url).origin === base.origin
    return ours && request.authorized !== false ? authorization.header() : undefined
  }

  /** Drops rejected credentials. @returns whether there are others */
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
 * Returns the URL of an API path: below the base URL and its path, with or without a leading slash. An absolute URL is
 * not changed. For URLs that a platform returns see {@link PlatformHttp.uploadUrl}.
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

/** Returns the delay before the next attempt, in ms: as the platform requested, else 200, 400, 800 … */
function retryDelay(error: unknown, attempt: number): number {
  const asked = error instanceof GatewayError ? error.retryAfter : undefined
  return asked === undefined ? 100 * 2 ** attempt : asked * 1000
}
