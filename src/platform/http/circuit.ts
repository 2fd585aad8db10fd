import { CircuitOpenError } from '../platform.ts'
import type { CircuitState, PlatformTools } from '../tools.ts'
import { isPlatformResponse, isUnavailable } from './failures.ts'

export interface CircuitCall {
  /** A call that its caller cuts by this signal counts for nothing, neither as an answer nor as a failure. */
  signal: AbortSignal
  /** Whether it may try the platform for the others: not if it carries content, for that takes as long as it takes. */
  canBeTrial: boolean
}

/** Runs work through the circuit. @throws CircuitOpenError instead, while the platform is given a rest */
export type Circuit = <T>(work: () => Promise<T>, circuitCall: CircuitCall) => Promise<T>

/**
 * The circuit breaker of one platform.
 *
 * - Closed, it lets every call pass. It opens after `failures` calls that failed since the platform last answered.
 * - Open, it refuses every call for `halfOpenAfter` ms.
 * - Half-open, the next short call tries the platform, and until that is decided other short calls are refused, so that
 *   none waits for another. An answer closes the circuit, a failure opens it again, and so does a trial that decided
 *   nothing: it was cut, never left the gateway, or its answer comes by drops. Calls that carry content pass beside the
 *   trial, and decide only where there is none.
 */
export function createCircuit(name: string, { circuit, timeouts, log, observer }: PlatformTools): Circuit {
  let state: CircuitState = 'closed'
  /** Since the platform last answered. */
  let failures = 0
  /** On the monotonic clock, in ms. */
  let openUntil = 0
  /** Stands for the call that tries the platform. */
  let trial: symbol | undefined

  function enter(next: CircuitState) {
    state = next
    trial = undefined
    observer.circuit(name, next)
    log.warn({ platform: name, circuit: next }, 'platform circuit changed state')
  }

  function open() {
    enter('open')
    openUntil = performance.now() + circuit.halfOpenAfter
    setTimeout(enter, circuit.halfOpenAfter, 'half-open').unref()
  }

  /** @param failure undefined for a success */
  function learn(failure: unknown, own: symbol | undefined) {
    if (trial !== own) return
    if (failure === undefined || isPlatformResponse(failure)) {
      failures = 0
      if (state === 'half-open') enter('closed')
    } else if (isUnavailable(failure)) {
      failures += 1
      if (state === 'half-open' || (state === 'closed' && failures >= circuit.failures)) open()
    }
  }

  function reject(): never {
    const retryAfter = Math.max(1, Math.ceil((openUntil - performance.now()) / 1000))
    const detail = `${name} failed repeatedly. Calls to it are paused; retry when Retry-After has passed.`
    throw new CircuitOpenError('platform-unavailable', detail, { retryAfter })
  }

  return async (work, { signal, canBeTrial }) => {
    const isTrial = state === 'half-open' && canBeTrial
    if (state === 'open' || (isTrial && trial)) reject()
    const own = isTrial ? Symbol() : undefined
    if (own) trial = own
    const endTrial = () => own && trial === own && open()
    const trialTimer = setTimeout(endTrial, timeouts.connect + timeouts.answer).unref()
    try {
      const result = await work()
      if (!signal.aborted) learn(undefined, own)
      return result
    } catch (error) {
      if (!signal.aborted) learn(error, own)
      throw error
    } finally {
      clearTimeout(trialTimer)
      endTrial()
    }
  }
}
