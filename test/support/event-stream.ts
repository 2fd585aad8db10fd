import type { Test } from 'tap'
import { type Json, key } from './gateway.ts'

/** A block of an event stream. */
export interface Frame {
  id?: string
  event?: string
  data?: Json
  text: string
}

export interface EventStream {
  status: number
  headers: Headers
  frames: Frame[]
  /** Waits for a frame, ten seconds at most. */
  until(matches: (frame: Frame) => boolean): Promise<Frame>
  /** Resolves when the server has ended the stream. */
  ended: Promise<void>
  close(): void
}

/** Opens an event stream and parses what comes. */
export async function openStream(
  t: Test,
  url: string,
  query = '',
  headers: Record<string, string> = {},
): Promise<EventStream> {
  const leave = new AbortController()
  t.teardown(() => leave.abort())
  const response = await fetch(`${url}/v1/events${query}`, {
    headers: { accept: 'text/event-stream', authorization: `Bearer ${key}`, ...headers },
    signal: leave.signal,
  })
  const frames: Frame[] = []
  let news = Promise.withResolvers<void>()
  async function read(): Promise<void> {
    let text = ''
    for await (const chunk of (response.body ?? new ReadableStream()).pipeThrough(new TextDecoderStream())) {
      text += chunk
      for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
        frames.push(parse(text.slice(0, end)))
        text = text.slice(end + 2)
      }
      news.resolve()
      news = Promise.withResolvers()
    }
  }
  return {
    status: response.status,
    headers: response.headers,
    frames,
    async until(matches) {
      const late = Promise.withResolvers<never>()
      const timer = setTimeout(() => late.reject(new Error(`only ${JSON.stringify(frames)}`)), 10_000)
      try {
        for (;;) {
          const found = frames.find(matches)
          if (found) return found
          await Promise.race([news.promise, late.promise])
        }
      } finally {
        clearTimeout(timer)
      }
    },
    ended: read().catch(() => {}),
    close: () => leave.abort(),
  }
}

function parse(text: string): Frame {
  const fields = text.split('\n').map((line) => [/^[^:]*/.exec(line)?.[0], line.replace(/^[^:]*: ?/, '')])
  const { id, event, data } = Object.fromEntries(fields)
  return { text, id, event, ...(data && { data: JSON.parse(data) }) }
}
