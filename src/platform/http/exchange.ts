import { Readable } from 'node:stream'
import type { Dispatcher } from 'undici'
import { GatewayError } from '../../errors.ts'
import type { PlatformTools } from '../tools.ts'
import { deadlineError } from './deadline.ts'
import { errorForException, errorForHeaders, errorForStatus } from './failures.ts'
import { createPools } from './pools.ts'
import { kindOf, type PlatformRequest, type PlatformResponse, policies } from './request.ts'

/** Maximum number of bytes that are read of an unneeded error body, to keep the connection. */
const maxDrainedBytes = 64 * 1024
/** A chunk is sent in pieces of this size, in bytes. */
const pieceBytes = 256 * 1024

/**
 * Single exchanges with a platform: one request, one response, no retry. A success is returned; everything else is
 * thrown as a GatewayError, or as the signal's reason when the caller aborted it. An error status counts from the
 * moment its headers are there, whether or not the request was sent completely or the connection lasts.
 */
export function createExchange(name: string, tools: PlatformTools, resetHeader?: string) {
  const { timeouts, observer } = tools
  const pools = createPools(tools)

  async function perform(
    request: PlatformRequest,
    authorization: string | undefined,
    signal: AbortSignal,
  ): Promise<PlatformResponse> {
    const started = performance.now()
    let outcome = 'ok'
    try {
      const options = {
        signal,
        method: request.method,
        headers: { ...tools.traceHeaders(), ...headersOf(request, authorization) },
        body: bodyOf(request),
      }
      const response = await pools[kindOf(request)].request(request.url, options).catch((error) => {
        throw errorForHeaders(name, error)
      })
      if (response.statusCode >= 300 && !request.accept?.includes(response.statusCode)) {
        drain(response.body)
        outcome = String(response.statusCode)
        throw errorForStatus(name, response.statusCode, response.headers, resetHeader)
      }
      const body = await bodyOfResponse(response, signal)
      checkCodings(response.headers, body)
      if (response.statusCode < 300) checkPage(response.headers['content-type'])
      return { status: response.statusCode, headers: response.headers, body }
    } catch (error) {
      const failure = signal.aborted ? signal.reason : errorForException(name, error)
      if (outcome === 'ok') outcome = outcomeOf(failure)
      throw failure
    } finally {
      const seconds = (performance.now() - started) / 1000
      observer.call({ platform: name, operation: request.operation, outcome, seconds })
    }
  }

  /** Does not wait for the body of an error; it has the response timeout, then its connection is closed. */
  function drain(body: Dispatcher.ResponseData['body']): void {
    const signal = AbortSignal.timeout(timeouts.answer)
    body.dump({ limit: maxDrainedBytes, signal }).catch(() => {})
  }

  /**
   * Requests ask for no content coding (RFC 9110 §12.5.3) and no transfer coding but chunked (RFC 9112 §7.4): a few
   * bytes of one can decompress to gigabytes.
   */
  function checkCodings(headers: PlatformResponse['headers'], body: Buffer): void {
    const isPlain = (header: string, plain: string) =>
      [plain, undefined].includes(headers[header]?.toString().toLowerCase())
    if (body.length === 0) return
    if (isPlain('content-encoding', 'identity') && isPlain('transfer-encoding', 'chunked')) return
    const detail = `${name} returned a compressed response, though the request does not accept one`
    throw new GatewayError('platform-protocol-error', detail)
  }

  /** No platform returns a web page: one with status 200 is from a proxy, and the platform did not get the request. */
  function checkPage(type: string | string[] | undefined): void {
    if (/^text\/html\b/i.test(String(type)))
      throw new GatewayError('platform-protocol-error', `${name} returned a web page`)
  }

  return {
    async send(request: PlatformRequest, authorization?: string): Promise<PlatformResponse> {
      if (!(request.body instanceof Readable)) return perform(request, authorization, request.signal)
      // The creator of the stream limits its idle time; from its last byte on the exchange has a deadline.
      const responseTimer = startResponseTimer(name, request.body, timeouts[policies.stream.limit])
      try {
        return await perform(request, authorization, AbortSignal.any([request.signal, responseTimer.signal]))
      } finally {
        responseTimer.clear()
      }
    },

    async close() {
      await Promise.all(Object.values(pools).map((pool) => pool.close()))
    },
  }
}

function headersOf(request: PlatformRequest, authorization: string | undefined): Record<string, string> {
  const length = request.body instanceof Uint8Array ? request.body.length : request.length
  return {
    'accept-encoding': 'identity',
    ...(request.json !== undefined && { 'content-type': 'application/json' }),
    ...(typeof length === 'number' && { 'content-length': String(length) }),
    ...(authorization !== undefined && { authorization }),
    ...request.headers,
  }
}

/**
 * A chunk goes out piece by piece, as a stream does. As a whole it would wait in the socket, where undici takes it for
 * sent: after an early response the next request would be queued behind the rest of it, and HTTP/2 has no memory left
 * for the response.
 */
function bodyOf({ json, body }: PlatformRequest): string | Readable | null {
  if (json !== undefined) return JSON.stringify(json)
  if (body instanceof Uint8Array)
    return Readable.from(piecesOf(body), { objectMode: false, highWaterMark: 0 })
  return body ?? null
}

function* piecesOf(bytes: Uint8Array): Generator<Uint8Array> {
  for (let start = 0; start < bytes.length; start += pieceBytes)
    yield bytes.subarray(start, start + pieceBytes)
}

/** An error status that the adapter accepts is sufficient, even if its body fails. */
async function bodyOfResponse({ statusCode, body }: Dispatcher.ResponseData, signal: AbortSignal) {
  try {
    return Buffer.from(await body.arrayBuffer())
  } catch (error) {
    if (statusCode >= 300 && !signal.aborted) return Buffer.alloc(0)
    throw error
  }
}

/** Returns the label of the metrics: the outcome, or that the exchange was aborted by the gateway. */
function outcomeOf(failure: unknown): string {
  const known = failure instanceof GatewayError && failure.code.startsWith('platform-')
  return known ? failure.code : 'aborted'
}

/** A signal that fires when the response is not complete `ms` after the last byte was sent. */
function startResponseTimer(platform: string, stream: Readable, ms: number) {
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
