import type { Readable } from 'node:stream'
import { Agent, request as dispatch } from 'undici'
import { GatewayError } from '../../errors.ts'
import { traceHeaders } from '../../observability/tracing.ts'
import type { PlatformTools } from '../tools.ts'
import { failureOf, refusalOf } from './failures.ts'
import type { PlatformAnswer, PlatformRequest } from './http.ts'

/** No answer of an API is larger; undici stops reading there. */
const maxAnswerBytes = 4 * 1024 * 1024

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
    connect: { timeout: timeouts.connect },
    bodyTimeout: timeouts.answer,
    maxResponseSize: maxAnswerBytes,
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
      const seconds = (performance.now() - started) / 1000
      observer.call({ platform: name, operation: request.operation, outcome, seconds })
    }
  }

  return {
    /** With a body in memory, or none. */
    async call(request: PlatformRequest, authorization?: string): Promise<PlatformAnswer> {
      // A chunk takes its time on the way, and the last one its time to be taken in.
      const patience = request.body instanceof Uint8Array && { headersTimeout: timeouts.afterUpload }
      return perform(request, authorization, { dispatcher: agent, signal: request.signal, ...patience })
    },

    /** Who made the stream watches its progress; here only the wait for the answer is watched. */
    async stream(
      request: PlatformRequest,
      stream: Readable,
      authorization?: string,
    ): Promise<PlatformAnswer> {
      const patience = waitAfterEnd(stream, timeouts.afterUpload)
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
    ...(request.json !== undefined && { 'content-type': 'application/json' }),
    ...(typeof request.length === 'number' && { 'content-length': String(request.length) }),
    ...(authorization !== undefined && { authorization }),
    ...request.headers,
  }
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
