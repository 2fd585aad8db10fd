import {
  BrokenCircuitError,
  CircuitState,
  ConsecutiveBreaker,
  circuitBreaker,
  handleWhen,
  type IBackoffFactory,
} from 'cockatiel'
import { GatewayError } from '../errors.ts'
import { isDown } from './failures.ts'
import type { PlatformTools } from './tools.ts'

/** Runs work through the circuit. @throws GatewayError `platform-unavailable` while it is open */
export type Circuit = <T>(work: () => Promise<T>, signal: AbortSignal) => Promise<T>

/** The circuit breaker of one platform: so many failures in a row open it, a trial call closes it again. */
export function createCircuit(name: string, { circuit, log, observer }: PlatformTools): Circuit {
  const breaker = circuitBreaker(handleWhen(isDown), {
    halfOpenAfter: measured(circuit.halfOpenAfter),
    breaker: new ConsecutiveBreaker(circuit.failures),
  })
  breaker.onStateChange((state) => {
    observer.circuit(
      name,
      state === CircuitState.Open ? 'open' : state === CircuitState.HalfOpen ? 'half-open' : 'closed',
    )
    log.warn({ platform: name, circuit: CircuitState[state] }, 'circuit of the platform changed')
  })

  return (work, signal) =>
    breaker.execute(work, signal).catch((error) => {
      if (!(error instanceof BrokenCircuitError)) throw error
      const retryAfter = Math.ceil(circuit.halfOpenAfter / 1000)
      throw new GatewayError(
        'platform-unavailable',
        `${name} failed repeatedly; waiting before the next try`,
        { retryAfter },
      )
    })
}

/**
 * A pause of `ms`, measured. cockatiel compares dates: with the system's clock set back by an hour, a circuit would
 * stay open for an hour. So the pause is endless until it is over, and then none at all.
 */
function measured(ms: number): IBackoffFactory<unknown> {
  const next = () => {
    const end = performance.now() + ms
    return {
      next,
      get duration() {
        return performance.now() < end ? Number.POSITIVE_INFINITY : Number.NEGATIVE_INFINITY
      },
    }
  }
  return { next }
}
