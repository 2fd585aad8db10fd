import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
import { GatewayError } from '../../src/errors.ts'
import type { VideoStore } from '../../src/publication/store.ts'

/** The store is away for a call: before its effect, or after it, when only the answer is lost. */
export type Failure = 'before' | 'after'

/**
 * A store as far away as another machine's: every call lets everything else go on, before its effect and after it.
 * @param fails asked at each call but `ping` and `close`
 */
export function yieldingStore(
  store: VideoStore,
  fails: (name: string) => Failure | undefined = () => undefined,
): VideoStore {
  const entries = Object.entries(store).map(([name, method]) => [
    name,
    async (...args: unknown[]) => {
      if (name === 'close') return method(...args)
      const failure = name === 'ping' ? undefined : fails(name)
      await pause()
      if (failure === 'before') throw new GatewayError('store-unavailable')
      const result = await method(...args)
      await pause()
      if (failure === 'after') throw new GatewayError('store-unavailable')
      return result
    },
  ])
  const { now, connections } = store
  return { ...(Object.fromEntries(entries) as VideoStore), now, connections }
}

/** Half of the time a turn of the event loop, else a few milliseconds. */
function pause(): Promise<unknown> {
  return Math.random() < 0.5 ? turn() : sleep(Math.random() * 4)
}
