import { GatewayError } from '../../errors.ts'

/**
 * Runs work that has to end within `ms`. Its signal aborts with `parent`, for the same reason, or at the deadline.
 * The result does not wait for work that ignores the signal, such as a token request that other callers share.
 * @throws `platform-timeout` at the deadline, the reason of `parent`, or what the work throws
 */
export async function withDeadline<T>(
  platform: string,
  ms: number,
  parent: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  parent?.throwIfAborted()
  const controller = new AbortController()
  const { signal } = controller
  const cut = Promise.withResolvers<never>()
  signal.addEventListener('abort', () => cut.reject(signal.reason), { once: true })
  const follow = () => controller.abort(parent?.reason)
  parent?.addEventListener('abort', follow, { once: true })
  const timer = setTimeout(() => controller.abort(deadlineError(platform, ms)), ms)
  try {
    return await Promise.race([work(signal), cut.promise])
  } finally {
    clearTimeout(timer)
    parent?.removeEventListener('abort', follow)
  }
}

/** @param ms the time that the platform had */
export function deadlineError(platform: string, ms: number): GatewayError {
  return new GatewayError(
    'platform-timeout',
    `${platform} did not complete its response within ${ms / 1000} s`,
  )
}
