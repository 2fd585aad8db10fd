import { setTimeout as sleep } from 'node:timers/promises'
import { GatewayError } from '../errors.ts'
import { isPassing } from './failures.ts'
import type { Content } from './platform.ts'

/** A piece of the content: the bytes from `start` up to, without, `end`. */
export interface Chunk {
  bytes: Uint8Array
  start: number
  end: number
  /** True when nothing follows: `end` is then the size of the content. */
  last: boolean
}

export interface ChunkedUpload {
  /** Exact size of every chunk but the last, in bytes. */
  chunkSize: number
  signal: AbortSignal
  /** Sends what is given. @returns the offset at which the platform stands then: `chunk.end` when it took all */
  send(chunk: Chunk): Promise<number>
  /**
   * Asked after a failure: the offset at which the platform stands. Without it a chunk is sent again as a whole,
   * which is right where the platform takes a chunk twice.
   */
  where?(): Promise<number>
  /** How often a chunk is tried. */
  attempts?: number
  /** Delay before a chunk's second attempt in ms; it doubles with each further one. */
  firstDelay?: number
}

/** A platform that asks for more patience fails the upload: the caller can plan a longer wait. Milliseconds. */
const longestRetryAfter = 30_000

/**
 * Uploads the content piece by piece, with one chunk in memory. A chunk that fails for a passing reason (connection
 * lost, 408, 429, 5xx) is sent again after a back-off, from where the platform says it stands: inside the chunk, at
 * its start, or at its end when only the answer was lost. Empty content sends nothing. Destroys `content.stream`
 * when it fails.
 * @throws the failure of the last attempt, the reason of `signal`, or `platform-protocol-error` for an offset that
 *   cannot be
 */
export async function uploadInChunks(content: Content, upload: ChunkedUpload): Promise<void> {
  try {
    for await (const chunk of chunksOf(content, upload.chunkSize)) {
      upload.signal.throwIfAborted()
      await persist(chunk, upload)
    }
  } catch (error) {
    content.stream.destroy()
    throw error
  }
}

/**
 * Cuts a stream into chunks of exactly `chunkSize` bytes, the last one shorter or equal. Copies each byte once, and
 * reads one piece of the source ahead, for that tells which chunk is the last.
 * @throws `incomplete-upload` when the stream does not hold `content.size` bytes
 */
export async function* chunksOf({ stream, size }: Content, chunkSize: number): AsyncGenerator<Chunk> {
  const room = (start: number) => Buffer.allocUnsafe(Math.min(chunkSize, (size ?? Infinity) - start))
  let start = 0
  let filled = 0
  let bytes: Buffer | undefined
  for await (const piece of stream as AsyncIterable<Buffer>) {
    if (size !== null && start + filled + piece.length > size) throw wrongLength(size)
    for (let rest = piece; rest.length > 0; ) {
      if (bytes && filled === chunkSize) {
        yield { bytes, start, end: start + chunkSize, last: false }
        start += chunkSize
        filled = 0
        bytes = undefined
      }
      // Never the same memory again: a lost connection may still hold on to the chunk before.
      bytes ??= room(start)
      const copied = rest.copy(bytes, filled)
      filled += copied
      rest = rest.subarray(copied)
    }
  }
  if (size !== null && start + filled !== size) throw wrongLength(size)
  if (bytes) yield { bytes: bytes.subarray(0, filled), start, end: start + filled, last: true }
}

/** Brings one chunk to its place, in as many attempts as it takes. */
async function persist(chunk: Chunk, upload: ChunkedUpload): Promise<void> {
  const { signal, attempts = 6, firstDelay = 500 } = upload
  let offset = chunk.start
  let failed = false
  for (let attempt = 1; offset < chunk.end; ) {
    try {
      if (failed) offset = upload.where ? within(chunk, await upload.where()) : chunk.start
      failed = false
      if (offset === chunk.end) return
      const bytes = chunk.bytes.subarray(offset - chunk.start)
      const reached = within(chunk, await upload.send({ ...chunk, bytes, start: offset }))
      if (reached <= offset)
        throw new GatewayError('platform-unavailable', 'the platform took nothing of what was sent')
      offset = reached
    } catch (error) {
      signal.throwIfAborted()
      const delay = delayBefore(++attempt, firstDelay, error)
      if (!isPassing(error) || attempt > attempts || delay > longestRetryAfter) throw error
      // It only rejects when the signal aborts, and then the signal's reason counts.
      await sleep(delay, undefined, { signal }).catch(() => signal.throwIfAborted())
      failed = true
    }
  }
}

function within(chunk: Chunk, offset: number): number {
  if (offset >= chunk.start && offset <= chunk.end) return offset
  throw new GatewayError('platform-protocol-error', 'the platform stands at an offset that cannot be')
}

/** Doubles from the second attempt on, with jitter between a half and the whole; never less than was asked for. */
function delayBefore(attempt: number, firstDelay: number, error: unknown): number {
  const asked = error instanceof GatewayError ? (error.retryAfter ?? 0) * 1000 : 0
  return Math.max(asked, firstDelay * 2 ** (attempt - 2) * (0.5 + Math.random() / 2))
}

function wrongLength(size: number): GatewayError {
  return new GatewayError('incomplete-upload', `the file does not have the announced ${size} bytes`)
}
