import { type Dispatcher, errors, request } from 'undici'
import { TargetNotAllowedError } from './guard.ts'
import { signWebhook } from './standard-webhooks.ts'

/** A message for one endpoint. */
export interface Message {
  /** The same at each delivery. */
  id: string
  url: string
  /** JSON, as it is signed and sent. */
  body: string
  /** Of the endpoint, the current one first. */
  secrets: readonly string[]
}

/** Why a delivery failed; also the label of a metric. */
export const deliveryFailures = [
  'status',
  'redirect',
  'gone',
  'timeout',
  'not-allowed',
  'name',
  'certificate',
  'malformed',
  'connection',
] as const
export type DeliveryFailure = (typeof deliveryFailures)[number]

/** Result of one delivery. */
export interface DeliveryResult {
  /** Undefined: delivered. `gone`: the endpoint wants nothing more. */
  failure: DeliveryFailure | undefined
  /** Of the response, null without one. */
  status: number | null
  /** The beginning of the response, as text of one line; null where there is none, or none that is text. */
  response: string | null
  /** Delay that the endpoint requested, in ms; undefined if it did not. */
  retryAfter: number | undefined
}

/** For the whole exchange, name and TLS included, in ms (Standard Webhooks: 15 to 30 s). */
export const exchangeMs = 15_000
/** Time to read the beginning of a response once its status is known, in ms, and its length in bytes. */
const responseMs = 1_000
const responseBytes = 1_024
/** Longest delay that an endpoint may request, in ms. */
const maxRetryAfterMs = 24 * 3_600_000

/**
 * Pauses after each failed delivery, in ms (Standard Webhooks, "Retry schedule"): three days in all. Then the message is
 * given up for this endpoint.
 */
const pauses = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400].map(
  (seconds) => seconds * 1_000,
)
/** Part by which a pause is longer at most, so that what failed together does not come back together. */
const jitter = 0.2

/**
 * Delivers a message once. Never rejects, and takes 15 s at most with any endpoint. Only a 2xx counts: nothing of the
 * response is followed, decoded or executed, and at most a kilobyte of it is read.
 * @param dispatcher checks the address that is dialled: see `guard.ts`
 * @param now of the signature, in ms since the epoch
 * @param timeout in ms; for tests
 */
export async function deliver(
  { id, url, body, secrets }: Message,
  options: { dispatcher: Dispatcher; now: number; userAgent: string; signal: AbortSignal; timeout?: number },
): Promise<DeliveryResult> {
  const { dispatcher, now, userAgent, timeout = exchangeMs } = options
  const signal = AbortSignal.any([options.signal, AbortSignal.timeout(timeout)])
  const headers = {
    'content-type': 'application/json',
    'user-agent': userAgent,
    // Nothing is decoded: a kilobyte of gzip is a megabyte.
    'accept-encoding': 'identity',
    ...signWebhook(secrets, id, now, body),
  }
  try {
    const response = await before(signal, request(url, { dispatcher, method: 'POST', headers, body, signal }))
    const { statusCode: status } = response
    const text = await beginningOf(response)
    return { failure: failureOf(status), status, response: text, retryAfter: retryAfterOf(response, now) }
  } catch (error) {
    return { failure: reasonOf(error), status: null, response: null, retryAfter: undefined }
  }
}

/**
 * Returns when a message that failed is delivered again.
 * @param attempts deliveries so far, at least one
 * @param retryAfter delay that the endpoint requested, in ms
 * @param random a number in [0, 1)
 * @returns ms from now; undefined after the last attempt
 */
export function nextDeliveryIn(
  attempts: number,
  retryAfter: number | undefined,
  random = Math.random(),
): number | undefined {
  const pause = pauses[attempts - 1]
  return pause === undefined
    ? undefined
    : Math.round(Math.max(pause * (1 + jitter * random), retryAfter ?? 0))
}

/** Rejects when the signal aborts: undici checks a signal only once it is connected. */
async function before<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  const { promise: ended, reject } = Promise.withResolvers<never>()
  const end = () => reject(signal.reason)
  signal.addEventListener('abort', end, { once: true })
  // The later of the two must not be an unhandled rejection.
  for (const either of [ended, work]) either.catch(() => {})
  try {
    if (signal.aborted) end()
    return await Promise.race([work, ended])
  } finally {
    signal.removeEventListener('abort', end)
  }
}

function failureOf(status: number): DeliveryFailure | undefined {
  if (status >= 200 && status < 300) return undefined
  if (status === 410) return 'gone'
  return status >= 300 && status < 400 ? 'redirect' : 'status'
}

/** Returns the beginning of the body as far as it arrives in time; null if it is empty or compressed. */
async function beginningOf({ headers, body }: Dispatcher.ResponseData): Promise<string | null> {
  const chunks: Buffer[] = []
  let length = 0
  const timer = setTimeout(() => body.destroy(), responseMs)
  try {
    for await (const chunk of body) {
      chunks.push(chunk)
      length += chunk.length
      if (length >= responseBytes) break
    }
  } catch {
    // The bytes so far are sufficient.
  } finally {
    clearTimeout(timer)
    body.destroy()
  }
  if (length === 0 || headers['content-encoding'] !== undefined) return null
  const text = new TextDecoder().decode(Buffer.concat(chunks).subarray(0, responseBytes))
  return text.replaceAll(/\p{C}+/gu, ' ').trim()
}

/** RFC 9110 §10.2.3: seconds, or a date. */
function retryAfterOf({ headers }: Dispatcher.ResponseData, now: number): number | undefined {
  const value = headers['retry-after']
  if (typeof value !== 'string') return undefined
  const ms = /^\d+$/.test(value) ? Number(value) * 1_000 : Date.parse(value) - now
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(ms, 0), maxRetryAfterMs)
}

function reasonOf(error: unknown): DeliveryFailure {
  const { name, code = '', syscall = '' } = error as NodeJS.ErrnoException
  if (error instanceof TargetNotAllowedError) return 'not-allowed'
  if (name === 'TimeoutError' || error instanceof errors.ConnectTimeoutError) return 'timeout'
  if (/^(query|getaddrinfo)/.test(syscall) || code === 'ENOTFOUND') return 'name'
  if (/CERT|SIGNED|ERR_TLS|UNABLE_TO_|^ERR_SSL|EPROTO/.test(code)) return 'certificate'
  const broken = [errors.HeadersOverflowError, errors.ResponseContentLengthMismatchError]
  if (name === 'HTTPParserError' || broken.some((type) => error instanceof type)) return 'malformed'
  return 'connection'
}
