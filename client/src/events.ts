import { createParser } from './event-stream.ts'
import type { Event, ListEventsData } from './generated/types.gen.ts'
import { GatewayProblem, isTransient } from './problem.ts'
import { sleep } from './sleep.ts'

export interface EventsOptions {
  /** `cursor` of the last event that was processed. Without it the events begin with the next one that happens. */
  after?: string | undefined
  /** Only events of this video. */
  video?: string | undefined
  /** Only events of this type. */
  type?: Event['type'] | undefined
  /** Ends the events with its reason. */
  signal?: AbortSignal | undefined
}

/** An event, and its place in the feed. */
export interface StreamedEvent extends Event {
  /** Store it with your own work: `after` of the next call, which then misses nothing. */
  cursor: string
}

/** The request that opens the stream. */
export type StreamEventsData = Omit<ListEventsData, 'headers'> & {
  headers: { accept: string; 'last-event-id'?: string }
}

/** Opens the stream. @throws GatewayProblem, or the exception of fetch */
export type OpenStream = (
  request: Omit<StreamEventsData, 'url'> & { signal: AbortSignal },
) => Promise<Response>

/** Milliseconds without a byte after which a connection counts as dead: the gateway sends a comment every 15 s. */
const silenceMs = 45_000
/** Pause before the second connection unless the gateway says another one, and the longest pause, in ms. */
const defaultPauseMs = 2_000
const maxPauseMs = 30_000
/** The gateway may ask for a longer one, in ms. */
const maxRetryAfterMs = 60_000

/**
 * Yields events as they happen, and connects again after every interruption, with the cursor of the
 * last one. An event may come twice.
 * @throws GatewayProblem that is not transient, such as `cursor-expired`, 401 or 403; the signal's reason
 */
export async function* streamEvents(
  open: OpenStream,
  { after, video, type, signal }: EventsOptions,
): AsyncGenerator<StreamedEvent, void, undefined> {
  const query = { ...(video !== undefined && { video }), ...(type !== undefined && { type }) }
  let cursor = after
  let basePause = defaultPauseMs
  /** Connections in a row that brought nothing. */
  let failures = 0
  for (;;) {
    signal?.throwIfAborted()
    const connection = new AbortController()
    const end = AbortSignal.any([connection.signal, ...(signal ? [signal] : [])])
    let asked: number | undefined
    try {
      const headers = {
        accept: 'text/event-stream',
        ...(cursor !== undefined && { 'last-event-id': cursor }),
      }
      const response = await within(silenceMs, open({ headers, query, signal: end }))
      for await (const block of blocksOf(response)) {
        if (block.retry !== undefined) basePause = Math.min(block.retry, maxPauseMs)
        else failures = 0
        cursor = block.id || cursor
        if (block.data !== '' && cursor) yield { ...(JSON.parse(block.data) as Event), cursor }
      }
    } catch (error) {
      signal?.throwIfAborted()
      if (!isTransient(error) && !(error instanceof BrokenStreamError)) throw error
      if (error instanceof GatewayProblem && error.retryAfter !== undefined) asked = error.retryAfter * 1000
    } finally {
      connection.abort()
    }
    failures++
    const pause = Math.min(basePause * 2 ** (failures - 1), maxPauseMs) * (1 - Math.random() / 4)
    await sleep(Math.max(pause, Math.min(asked ?? 0, maxRetryAfterMs)), signal ?? neverAborted)
  }
}

/** The connection broke, or what came is not what the gateway sends. */
class BrokenStreamError extends Error {}

const neverAborted = new AbortController().signal

async function* blocksOf(response: Response) {
  const mediaType = response.headers.get('content-type') ?? ''
  if (!/^text\/event-stream\b/i.test(mediaType) || !response.body)
    throw new Error('the response is not an event stream: check that the address is that of the gateway')
  const parse = createParser()
  const decoder = new TextDecoder()
  const reader = response.body.getReader()
  for (;;) {
    // The time that the reader of the events takes for each does not count.
    const { done, value } = await within(silenceMs, reader.read()).catch((cause) => {
      throw new BrokenStreamError('the event stream was interrupted', { cause })
    })
    if (done) return
    yield* parse(decoder.decode(value, { stream: true }))
  }
}

/** @throws TypeError, like fetch for a broken connection, when the promise takes too long */
function within<T>(ms: number, promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new TypeError('nothing came in time')), ms)
    promise.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}
