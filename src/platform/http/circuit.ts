import { EventEmitter } from 'node:events'
import CircuitBreaker from 'opossum'
import { CircuitOpenError } from '../platform.ts'
import type { PlatformTools } from '../tools.ts'
import { isAnswer, isDown, OutOfResourcesError } from './failures.ts'

export interface Passage {
  /** A call that its caller cuts by this signal counts for nothing, neither as a success nor as a failure. */
  signal: AbortSignal
  /** Whether it may try the platform for the others: not if it carries content, for that takes as long as it takes. */
  mayTry: boolean
}

/** Runs work through the circuit. @throws CircuitOpenError instead, while the platform is given a rest */
export type Circuit = <T>(work: () => Promise<T>, passage: Passage) => Promise<T>

/**
 * The circuit breaker of one platform. It opens when, of at least `failures` calls since the platform last answered,
 * more than half have failed. After a pause the next short call tries the platform, and until that is decided other
 * short calls are refused, so that none waits for another. Calls that carry content pass beside the trial, and the
 * breaker hears of their end alone: where nothing but uploads comes, nothing else would close it.
 */
export function createCircuit(name: string, { circuit, timeouts, log, observer }: PlatformTools): Circuit {
  const answers = new EventEmitter()
  const breaker = new CircuitBreaker(attempt, {
    timeout: false,
    resetTimeout: circuit.halfOpenAfter,
    volumeThreshold: circuit.failures,
    errorThresholdPercentage: 50,
    errorFilter: (error) => !isDown(error),
    // One count, begun anew by answers instead of the clock: rare calls open it too, earlier answers do not delay it.
    rollingCountBuckets: 1,
    rotateBucketController: answers,
    rollingPercentilesEnabled: false,
    enableSnapshots: false,
  })
  breaker.on('success', (end) => (end instanceof Error && !isAnswer(end)) || answers.emit('rotate'))
  const report = (state: 'closed' | 'half-open' | 'open') => () => {
    observer.circuit(name, state)
    log.warn({ platform: name, circuit: state }, 'circuit of the platform changed')
  }
  breaker.on('open', report('open')).on('halfOpen', report('half-open')).on('close', report('closed'))

  /**
   * A trial that was cut, that never left the gateway, or whose answer comes by drops, decides nothing: the pause
   * begins anew.
   */
  async function attempt(work: () => Promise<unknown>, signal: AbortSignal) {
    const rest = () => breaker.halfOpen && breaker.open()
    const overdue = setTimeout(rest, timeouts.connect + timeouts.answer).unref()
    try {
      return await work()
    } catch (error) {
      if (error instanceof OutOfResourcesError) rest()
      throw error
    } finally {
      clearTimeout(overdue)
      if (signal.aborted) rest()
    }
  }

  return async <T>(work: () => Promise<T>, { signal, mayTry }: Passage) => {
    const trying = breaker.halfOpen && !breaker.pendingClose
    if (breaker.opened || (trying && mayTry)) {
      const detail = `${name} failed repeatedly; waiting before the next try`
      const retryAfter = Math.ceil(circuit.halfOpenAfter / 1000)
      throw new CircuitOpenError('platform-unavailable', detail, { retryAfter })
    }
    if (mayTry) return breaker.fire(work, signal) as Promise<T>
    const end = work()
    await Promise.allSettled([end])
    if (!signal.aborted) await Promise.allSettled([breaker.fire(() => end, signal)])
    return end
  }
}
