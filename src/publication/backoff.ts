/** Durations in milliseconds; `jitter` 0.2 spreads a delay over ±20 %. */
export interface BackoffPolicy {
  initial: number
  factor: number
  max: number
  jitter: number
}

/**
 * Returns the delay before the next check: it grows by `factor` with each check up to `max`, with jitter, so that
 * videos that were uploaded together are not checked together.
 * @param checks number of earlier checks
 * @param random a number in [0, 1)
 */
export function backoffDelay(policy: BackoffPolicy, checks: number, random: number = Math.random()): number {
  const plain = Math.min(policy.initial * policy.factor ** Math.min(checks, 1000), policy.max)
  return Math.round(plain * (1 + policy.jitter * (2 * random - 1)))
}
