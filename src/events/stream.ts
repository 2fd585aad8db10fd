import type { VideoEvent } from '../publication/events.ts'
import type { EventQuery, VideoStore } from '../publication/store.ts'
import type { Tail } from './tail.ts'

/** Time that a reader waits before it connects again, in ms. */
const retryMs = 2_000
/** Time without an event after which a comment shows that the connection lives, in ms. */
const heartbeatMs = 15_000
/** Events per chunk: what a reader has not accepted yet is one chunk, and the buffers of its socket. */
const chunkSize = 20

export interface StreamOptions {
  tail: Tail
  store: VideoStore
  /** The position after which the stream begins. */
  after: number
  filter: Pick<EventQuery, 'video' | 'type'>
  /** The event as JSON. */
  render(event: VideoEvent): string
  /** Ends the stream. */
  signal: AbortSignal
}

/**
 * Yields the events after a position as chunks of an event stream (HTML Standard, section 9.2), without an end. Each
 * stream goes at its own pace: it reads what it needs next from the tail's memory or, when it is further behind, from the
 * store, so that a slow reader costs no memory.
 * @throws GatewayError `store-unavailable`
 */
export async function* streamEvents(options: StreamOptions): AsyncGenerator<string> {
  const { tail, store, filter, render, signal } = options
  let position = options.after
  let heard = Promise.withResolvers<void>()
  const stopListening = await tail.listen(() => heard.resolve())
  const onAbort = () => heard.resolve()
  signal.addEventListener('abort', onAbort)
  try {
    yield `retry: ${retryMs}\nid: ${position}\n\n`
    while (!signal.aborted) {
      heard = Promise.withResolvers()
      const next = (tail.since(position) ?? (await readOn(store, position))).slice(0, chunkSize)
      if (next.length === 0) {
        if (!(await within(heartbeatMs, heard.promise))) yield `: heartbeat\nid: ${position}\n\n`
        continue
      }
      position = next.at(-1)?.position ?? position
      const text = next
        .filter(
          ({ type, video }) => type === (filter.type ?? type) && video.id === (filter.video ?? video.id),
        )
        .map((event) => `id: ${event.position}\nevent: ${event.type}\ndata: ${render(event)}\n\n`)
      if (text.length > 0) yield text.join('')
    }
  } finally {
    signal.removeEventListener('abort', onAbort)
    stopListening()
  }
}

async function readOn(store: VideoStore, after: number): Promise<VideoEvent[]> {
  const { last } = await store.eventRange()
  return store.events({ after, upTo: last, limit: chunkSize })
}

/** @returns whether the promise has resolved in time */
async function within(ms: number, promise: Promise<void>): Promise<boolean> {
  const late = Promise.withResolvers<boolean>()
  const timer = setTimeout(() => late.resolve(false), ms)
  const inTime = await Promise.race([promise.then(() => true), late.promise])
  clearTimeout(timer)
  return inTime
}
