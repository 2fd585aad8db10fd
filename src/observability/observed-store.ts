import { GatewayError } from '../errors.ts'
import type { VideoStore } from '../publication/store.ts'

/** One call of the store. `failed` means that the store was unavailable, not that a change was rejected. */
export interface StoreCall {
  operation: string
  outcome: 'ok' | 'failed'
  seconds: number
}

type Method = (...args: unknown[]) => Promise<unknown>

/** Reports the duration of every call, including the wait for a connection or a lock. */
export function observeStore(store: VideoStore, report: (call: StoreCall) => void): VideoStore {
  const observed = operationsOf(store).map((operation) => {
    const method = store[operation] as Method
    const timed: Method = async (...args) => {
      const begun = performance.now()
      let outcome: StoreCall['outcome'] = 'ok'
      try {
        return await method(...args)
      } catch (error) {
        if (error instanceof GatewayError && error.code === 'store-unavailable') outcome = 'failed'
        throw error
      } finally {
        report({ operation, outcome, seconds: (performance.now() - begun) / 1000 })
      }
    }
    return [operation, timed] as const
  })
  return { ...store, ...(Object.fromEntries(observed) as Partial<VideoStore>) }
}

/** The names of the asynchronous methods of a store, except the last one that is ever called. */
export function operationsOf(store: VideoStore): (keyof VideoStore)[] {
  const others: (keyof VideoStore)[] = ['now', 'connections', 'close']
  return (Object.keys(store) as (keyof VideoStore)[]).filter((name) => !others.includes(name))
}
