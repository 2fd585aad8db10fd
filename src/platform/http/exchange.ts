import type { Readable } from 'node:stream'
import { Agent, type Dispatcher, request as dispatch } from 'undici'
import { GatewayError } from '../../errors.ts'
import { traceHeaders } from '../../observability/tracing.ts'
import type { PlatformTools } from '../tools.ts'
import { createConnector } from './connect.ts'
import { deadlineError } from './deadline.ts'
import { failureOf, refusalOf } from './failures.ts'
import type { PlatformAnswer, PlatformRequest } from './http.ts'

/** The longest body of any response, in bytes; undici stops reading there. Nothing is decompressed. */
const maxResponseBytes = 4 * 1024 * 1024
/** Of a refused request's response, whose body nobody needs: so much is read to keep the connection. */
const maxDrainedBytes = 64 * 1024

/** How an exchange goes: over which pool, and what ends it. */
interface Way {
  dispatcher: Agent
  signal: AbortSignal
  /** For an answer that takes longer than usual, in ms. */
  headersTimeout?: number
}

/**
 * Single exchanges with a platform: one request, one answer, nothing repeated. The answer is the platform's consent;
 * everything else is thrown as what it means, and the signal's reason when the caller cut it.
 */
export function createExchange(name: string, { timeouts, observer }: PlatformTools) {
  const limits = {
    connect: createConnector(timeouts.connect),
    bodyTimeout: timeouts.answer,
    maxResponseSize: maxResponseBytes,
  }
  const agent = new Agent({ ...limits, headersTimeout: timeouts.answer })
  // A stream cannot be sent twice, so it must not meet a kept connection that the platform is just closing.
  const streamAgent = new Agent({ ...limits, headersTimeout: 0, pipelining: 0 })

  async function perform(request: PlatformRequest, authorization: string | undefined, way: Way) {
    const started = performance.now()
    let outcome = 'ok'
    try {
      const response = await dispatch(request.url, {
        ...way,
        method: request.method,
        headers: { ...traceHeaders(), ...headersOf(request, authorization) },
        body: request.json === undefined ? (request.body ?? null) : JSON.stringify(request.json),
      })
      if (response.statusCode >= 300 && !request.accept?.includes(response.statusCode)) {
        drain(response.body)
        outcome = String(response.statusCode)
        throw refusalOf(name, response.statusCode, response.headers)
      }
      const body = Buffer.from(await response.body.arrayBuffer())
      checkCoding(response.headers['content-encoding'], body)
      if (response.statusCode < 300) checkPage(response.headers['content-type'])
      return { status: response.statusCode, headers: response.headers, body }
    } catch (error) {
      const failure = way.signal.aborted ? way.signal.reason : failureOf(name, error)
      if (outcome === 'ok') outcome = outcomeOf(failure)
      throw failure
    } finally {
      const seconds = (performance.now() - started) / 1000
      observer.call({ platform: name, operation: request.operation, outcome, seconds })
    }
  }

  /** The status says it all, so the body is not waited for; it has the time of an answer, or its connection is cut. */
  function drain(body: Dispatcher.ResponseData['body']): void {
    const signal = AbortSignal.timeout(timeouts.answer)
    body.dump({ limit: maxDrainedBytes, signal }).catch(() => {})
  }

  /** Requests ask for no content coding (RFC 9110 §12.5.3): a few bytes of one can decompress to gigabytes. */
  function checkCoding(coding: string | string[] | undefined, body: Buffer): void {
    if (coding === undefined || String(coding).toLowerCase() === 'identity' || body.length === 0) return
    const detail = `${name} returned a compressed response, though the request does not accept one`
    throw new GatewayError('platform-protocol-error', detail)
  }

  /** No platform answers with a web page: one with status 200 is of a proxy, which did not do what was asked for. */
  function checkPage(type: string | string[] | undefined): void {
    if (/^text\/html\b/i.test(String(type)))
      throw new GatewayError('platform-protocol-error', `${name} answered with a web page`)
  }

  return {
    /** With a body in memory, or none. */
    async call(request: PlatformRequest, authorization?: string): Promise<PlatformAnswer> {
      // A chunk takes its time on the way, and the last one its time to be taken in.
      const patience = request.body instanceof Uint8Array && { headersTimeout: timeouts.afterUpload }
      return perform(request, authorization, { dispatcher: agent, signal: request.signal, ...patience })
    },

    /** Who made the stream watches its progress; from its last byte on the exchange has a deadline. */
    async stream(
      request: PlatformRequest,
      stream: Readable,
      authorization?: string,
    ): Promise<PlatformAnswer> {
      const patience = waitAfterEnd(name, stream, timeouts.afterUpload)
      const signal = AbortSignal.any([request.signal, patience.signal])
      try {
        return await perform(request, authorization, { dispatcher: streamAgent, signal })
      } finally {
        patience.clear()
      }
    },

    async close() {
      await Promise.all([agent.destroy(), streamAgent.destroy()])
    },
  }
}

function headersOf(request: PlatformRequest, authorization: string | undefined): Record<string, string> {
  return {
    'accept-encoding': 'identity',
    ...(request.json !== undefined && { 'content-type': 'application/json' }),
    ...(typeof request.length === 'number' && { 'content-length': String(request.length) }),
    ...(authorization !== undefined && { authorization }),
    ...request.headers,
  }
}

/** A label of the metrics: what the platform did, or that somebody else ended the exchange. */
function outcomeOf(failure: unknown): string {
  const known = failure instanceof GatewayError && failure.code.startsWith('platform-')
  return known ? failure.code : 'aborted'
}

/** A signal that fires when the response is not complete `ms` after the last byte was sent. */
function waitAfterEnd(platform: string, stream: Readable, ms: number) {
  const controller = new AbortController()
  let timer: NodeJS.Timeout | undefined
  const start = () => {
    timer = setTimeout(() => controller.abort(deadlineError(platform, ms)), ms)
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
