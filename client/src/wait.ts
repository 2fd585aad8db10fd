import type { GetStatusResponse } from './generated/types.gen.ts'
import { GatewayProblem, readRetryAfter } from './problem.ts'

export interface WaitOptions {
  /** Ends the wait with its reason. */
  signal?: AbortSignal | undefined
  /** Milliseconds, an hour if absent; then the wait ends with a `TimeoutError` (a DOMException). */
  timeout?: number
  /** Called with every answer. */
  onStatus?(status: GetStatusResponse): void
}

/** The platform could not make a video of the content; `code` says why (docs/integration.md). */
export class VideoFailedError extends Error {
  override readonly name = 'VideoFailedError'
  readonly code: string
  readonly status: GetStatusResponse

  constructor(status: GetStatusResponse) {
    super(status.error?.message ?? 'the video failed')
    this.code = status.error?.code ?? 'unknown'
    this.status = status
  }
}

/** Seconds between two looks when nobody says how many. */
const defaultPause = 2

/**
 * Asks for the status, as often as `Retry-After` says, until the video is ready. What passes by itself, the network
 * and problems that are `transient`, is waited out.
 * @throws VideoFailedError; GatewayProblem when waiting is no use; the signal's reason
 */
export async function waitUntilReady(
  look: (signal: AbortSignal) => Promise<Response>,
  { signal, timeout = 3_600_000, onStatus }: WaitOptions = {},
): Promise<GetStatusResponse> {
  const end = AbortSignal.any([AbortSignal.timeout(timeout), ...(signal ? [signal] : [])])
  for (;;) {
    end.throwIfAborted()
    let pause = defaultPause
    try {
      const response = await look(end)
      const status = (await response.json()) as GetStatusResponse
      onStatus?.(status)
      if (status.status === 'ready') return status
      if (status.status === 'error') throw new VideoFailedError(status)
      pause = readRetryAfter(response.headers.get('retry-after')) ?? defaultPause
    } catch (error) {
      end.throwIfAborted()
      if (!passes(error)) throw error
      if (error instanceof GatewayProblem) pause = error.retryAfter ?? defaultPause
    }
    await sleep(pause * 1000, end)
  }
}

/** fetch reports a broken connection as a TypeError. */
function passes(error: unknown): boolean {
  return error instanceof GatewayProblem ? error.transient : error instanceof TypeError
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer)
      reject(signal.reason)
    }
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', stop)
      resolve()
    }, ms)
    signal.addEventListener('abort', stop, { once: true })
  })
}
