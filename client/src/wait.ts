import type { GetStatusResponse } from './generated/types.gen.ts'
import { GatewayProblem, isTransient, readRetryAfter } from './problem.ts'
import { sleep } from './sleep.ts'

export interface WaitOptions {
  /** Ends the wait with its reason. */
  signal?: AbortSignal | undefined
  /** Milliseconds, an hour by default; then the wait ends with a `TimeoutError` (a DOMException). */
  timeout?: number
  /** Called with every response. */
  onStatus?(status: GetStatusResponse): void
}

/** The processing failed; `code` is the reason (docs/integration.md). */
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

/** Default interval between two requests, in seconds. */
const defaultPause = 2

/** Seconds for which the gateway is asked to hold its response back: less than proxies wait for one. */
const holdBack = 25

/**
 * Requests the status until the video is ready. The gateway holds each response back until the stage changes (RFC 7240,
 * `Prefer: wait`); one that does not is asked at the interval of `Retry-After`. Network failures and `transient` problems
 * are retried.
 * @throws VideoFailedError; GatewayProblem for a problem that is not transient; the signal's reason
 */
export async function waitUntilReady(
  look: (signal: AbortSignal, wait: number) => Promise<Response>,
  { signal, timeout = 3_600_000, onStatus }: WaitOptions = {},
): Promise<GetStatusResponse> {
  const end = AbortSignal.any([AbortSignal.timeout(timeout), ...(signal ? [signal] : [])])
  let stage: string | undefined
  for (;;) {
    end.throwIfAborted()
    const wait = stage === undefined ? 0 : holdBack
    const begun = performance.now()
    let pause = defaultPause
    try {
      const response = await look(end, wait)
      const status = (await response.json()) as GetStatusResponse
      onStatus?.(status)
      if (status.status === 'ready') return status
      if (status.status === 'error') throw new VideoFailedError(status)
      // A gateway that is shutting down responds early, and one that does not support `Prefer` immediately.
      const isDue = status.stage !== stage || performance.now() - begun > wait * 900
      const isHeld = /^wait=/.test(response.headers.get('preference-applied') ?? '')
      pause = isHeld && isDue ? 0 : (readRetryAfter(response.headers.get('retry-after')) ?? defaultPause)
      stage = status.stage
    } catch (error) {
      end.throwIfAborted()
      if (!isTransient(error)) throw error
      if (error instanceof GatewayProblem) pause = error.retryAfter ?? defaultPause
    }
    await sleep(pause * 1000, end)
  }
}
