import { GatewayError } from '../errors.ts'
import type { Gateway } from './gateway.ts'

/** Part of a claim after which its work ends: the row is then scheduled again before another process claims it. */
const workShare = 0.9

/** Work on a video in this process that no request waits for. */
export interface Attempt {
  video: string
  end: AbortController
}

/**
 * Runs work on a video until its claim ends, the video is deleted or the process stops. The work is over then even if
 * the adapter ignores the signal: a late result is dropped, so that a hanging platform occupies no place for longer.
 * @throws what the work throws, or the reason for its end
 */
export async function attempt<T>(
  gateway: Gateway,
  video: string,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const end = new AbortController()
  const limit = gateway.policy.claim * workShare
  const timer = setTimeout(() => end.abort(tooLong(limit)), limit)
  const signal = AbortSignal.any([gateway.signal, end.signal])
  const { promise: ended, reject } = Promise.withResolvers<never>()
  const current: Attempt = { video, end }
  gateway.attempts.add(current)
  try {
    signal.throwIfAborted()
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
    return await Promise.race([work(signal), ended])
  } finally {
    clearTimeout(timer)
    gateway.attempts.delete(current)
  }
}

/** Ends the work on a video that was deleted. */
export function endAttempts(gateway: Gateway, video: string): void {
  for (const { video: id, end } of gateway.attempts)
    if (id === video) end.abort(new GatewayError('video-deleted'))
}

function tooLong(ms: number): GatewayError {
  return new GatewayError('platform-timeout', `The platform did not answer within ${ms / 1000} s.`)
}
