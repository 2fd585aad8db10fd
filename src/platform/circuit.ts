import { GatewayError } from '../errors.ts'
import { isAnswer, isDown } from './failures.ts'
import type { PlatformTools } from './tools.ts'

/** What an open circuit says; `retryAfter` tells when it may be closed again. */
export class CircuitOpenError extends GatewayError {}

export interface Passage {
  /** A call that its caller cuts by this signal counts for nothing, neither as a success nor as a failure. */
  signal: AbortSignal
  /** Whether it may try the platform for the others: not if it carries content, for that takes as long as it takes. */
  mayTry: boolean
}

/** Runs work through the circuit. @throws CircuitOpenError instead, while the platform is given a rest */
export type Circuit = <T>(work: () => Promise<T>, passage: Passage) => Promise<T>

/**
 * The circuit breaker of one platform. So many failures in a row open it; after a pause one short call tries the
 * platform, and until that is decided other short calls are refused, so that none waits for another. Calls that carry
 * content pass beside the trial and count like any other: where nothing but uploads comes, nothing else would close
 * the circuit.
 */
export function createCircuit(name: string, { circuit, log, observer }: PlatformTools): Circuit {
  /** Half-open: a trial is under way. */
  let state: 'closed' | 'half-open' | 'open' = 'closed'
  let failures = 0
  /** When the next trial may begin. Measured: a clock that is set neither prolongs the pause nor ends it. */
  let nextTrial = 0

  const tooEarly = () => performance.now() < nextTrial
  const resting = () => state === 'open' && tooEarly()

  return async (work, { signal, mayTry }) => {
    if (resting() || (state === 'half-open' && mayTry && tooEarly())) throw refusal()
    const trial = mayTry && state !== 'closed'
    if (trial) {
      // One that decides nothing for so long, as its answer comes by drops, makes room for another.
      nextTrial = performance.now() + circuit.halfOpenAfter
      turn('half-open')
    }
    try {
      const result = await work()
      answered()
      return result
    } catch (error) {
      if (isDown(error)) failed()
      else if (isAnswer(error) && !signal.aborted) answered()
      else if (trial && state === 'half-open') {
        nextTrial = 0
        turn('open')
      }
      throw error
    }
  }

  function failed() {
    // Of a call that began before the pause.
    if (resting()) return
    failures += 1
    if (state === 'closed' && failures < circuit.failures) return
    nextTrial = performance.now() + circuit.halfOpenAfter
    turn('open')
  }

  function answered() {
    if (resting()) return
    failures = 0
    turn('closed')
  }

  function turn(next: typeof state) {
    if (next === state) return
    state = next
    observer.circuit(name, state)
    log.warn({ platform: name, circuit: state }, 'circuit of the platform changed')
  }

  function refusal() {
    const left = state === 'open' ? nextTrial - performance.now() : 0
    const retryAfter = Math.max(1, Math.ceil(left / 1000))
    const detail = `${name} failed repeatedly; waiting before the next try`
    return new CircuitOpenError('platform-unavailable', detail, { retryAfter })
  }
}
