import { CircuitOpenError } from '../platform.ts'
import type { CircuitState, PlatformTools } from '../tools.ts'
import { isPlatformResponse, isUnavailable } from './failures.ts'

export interface CircuitCall {
  /** A call that its caller aborts by this signal is not counted, neither as a response nor as a failure. */
  signal: AbortSignal
  /** Whether it can be the trial call: not if it sends content, because its duration has no bound. */
  canBeTrial: boolean
}

/** Runs work through the circuit. @throws CircuitOpenError without running it, while calls are paused */
export type Circuit = <T>(work: () => Promise<T>, circuitCall: CircuitCall) => Promise<T>

/**
 * The circuit breaker of one platform.
 *
 * - Closed: it lets every call through. It opens after `failures` failed calls since the platform's last response.
 * - Open: it rejects every call for `halfOpenAfter` ms.
 * - Half-open: the next short call is the trial. Until it ends, other short calls are rejected, so that no call waits
 *   for another. A response closes the circuit. A failure reopens it, and so does a trial without a result: one that
 *   was aborted, never left the gateway, or whose response drips. Calls that send content are let through next to the
 *   trial; their results count only while there is no trial.
 */
export function createCircuit(name: string, { circuit, timeouts, log, observer }: PlatformTools): Circuit {
  let state: CircuitState = 'closed'
  /** Failed calls since the platform's last response. */
  let failures = 0
  /** End of the pause on the monotonic clock, in ms. */
  let openUntil = 0
  /** Identifies the trial call. */
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
