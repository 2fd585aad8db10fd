import type { Log } from '../platform/tools.ts'
import { createAlarm } from '../publication/alarm.ts'
import type { VideoEvent } from '../publication/events.ts'
import type { VideoStore } from '../publication/store.ts'

/** Interval between two queries for new events while there are listeners, in ms. */
const intervalMs = 250
/** The same after a change in this process, in ms: changes that come together are read together. */
const wakeMs = 10
/** Events per read. */
const batchSize = 200
/** Events that are kept in memory, for the readers that are about to send them. */
const recentSize = 256

/** Called with new events. */
export type Hear = (events: readonly VideoEvent[]) => void

export interface Tail {
  /**
   * Hears of every event that is written after the promise has resolved, and perhaps of a few that were written before.
   * @returns a function that ends it
   * @throws GatewayError `store-unavailable`
   */
  listen(hear: Hear): Promise<() => void>
  /** Returns the events after a position if they are still in memory; empty when there are none. */
  since(position: number): readonly VideoEvent[] | undefined
  /** Something was written in this process. */
  wake(): void
  stop(): Promise<void>
}

/**
 * Follows the events in the store, with one small query per interval for all listeners of this process, and none without
 * listeners. The transaction of a change sends no notification: under load that would serialize commits.
 */
export function createTail(store: VideoStore, log: Log): Tail {
  const listeners = new Set<Hear>()
  const alarm = createAlarm()
  /** All events up to this position are known; undefined without listeners. */
  let last: number | undefined
  /** The events after this position, up to `last`. */
  let recentAfter = 0
  let recent: VideoEvent[] = []
  let starting: Promise<void> | undefined
  let failing = false

  async function run(): Promise<void> {
    while (await alarm.rings()) {
      if (listeners.size === 0) {
        last = undefined
        recent = []
        continue
      }
      try {
        await look()
        failing = false
      } catch (error) {
        if (!failing) log.warn({ err: error }, 'events cannot be read; trying again')
        failing = true
      }
      alarm.setIn(intervalMs)
    }
  }

  async function look(): Promise<void> {
    const range = await store.eventRange()
    // Without a position, or with one that a restored database does not have yet.
    if (last === undefined || last > range.last) begin(range.last)
    for (let after = last ?? range.last; after < range.last; ) {
      const events = await store.events({ after, upTo: range.last, limit: batchSize })
      after = events.length < batchSize ? range.last : (events.at(-1)?.position ?? range.last)
      keep(events, after)
      for (const hear of listeners) hear(events)
    }
  }

  function begin(position: number): void {
    last = position
    recentAfter = position
    recent = []
  }

  function keep(events: VideoEvent[], upTo: number): void {
    const all = [...recent, ...events]
    const dropped = all.length - recentSize
    if (dropped > 0) recentAfter = all[dropped - 1]?.position ?? recentAfter
    recent = all.slice(Math.max(0, dropped))
    last = upTo
  }

  /** Reads the position of the last event, once for all concurrent new listeners. */
  function start(): Promise<void> {
    starting ??= store
      .eventRange()
      .then((range) => {
        if (last === undefined) begin(range.last)
        alarm.setIn(intervalMs)
      })
      .finally(() => {
        starting = undefined
      })
    return starting
  }

  const running = run()
  return {
    async listen(hear) {
      listeners.add(hear)
      try {
        if (last === undefined) await start()
      } catch (error) {
        listeners.delete(hear)
        throw error
      }
      return () => {
        listeners.delete(hear)
      }
    },
    since(position) {
      if (last === undefined || position < recentAfter) return undefined
      return recent.filter((event) => event.position > position)
    },
    wake: () => {
      if (listeners.size > 0) alarm.setIn(wakeMs)
    },
    async stop() {
      alarm.stop()
      await running
    },
  }
}
