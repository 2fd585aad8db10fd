import type { ShownVideo, VideoEvent } from '../publication/events.ts'
import type { Tail } from './tail.ts'

/**
 * Waits until an event says that a video is in another stage than a reader has seen, for `ms` at most. It costs nothing
 * in the store beyond the tail that all readers share.
 * @param look returns the video as it is; undefined when there is nothing to wait for
 * @param signal ends the wait
 * @throws what `look` throws, and GatewayError `store-unavailable`
 */
export async function waitForStage(
  tail: Tail,
  look: () => Promise<ShownVideo | undefined>,
  ms: number,
  signal: AbortSignal,
): Promise<void> {
  const over = Promise.withResolvers<void>()
  let seen: ShownVideo | undefined
  /** Events that came before the video was seen: the look may have read the row before them. */
  let early: readonly VideoEvent[] = []
  // Before the look, so that a change after it is noticed.
  const stopListening = await tail.listen((events) => {
    if (seen === undefined) early = [...early, ...events]
    else if (hasNews(events, seen)) over.resolve()
  })
  const timer = setTimeout(over.resolve, ms)
  signal.addEventListener('abort', () => over.resolve(), { once: true })
  try {
    seen = await look()
    if (seen && !hasNews(early, seen) && !signal.aborted) await over.promise
  } finally {
    clearTimeout(timer)
    stopListening()
  }
}

function hasNews(events: readonly VideoEvent[], seen: ShownVideo): boolean {
  return events.some(
    ({ type, video }) =>
      video.id === seen.id &&
      video.version > seen.version &&
      (type === 'video.deleted' || video.stage !== seen.stage),
  )
}
