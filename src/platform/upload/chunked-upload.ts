import { setTimeout as sleep } from 'node:timers/promises'
import { GatewayError } from '../../errors.ts'
import { isTransient } from '../http/failures.ts'
import type { Content } from '../platform.ts'

/** A chunk of the content: the bytes from `start` up to, but not including, `end`. */
export interface Chunk {
  bytes: Uint8Array
  start: number
  end: number
  /** True when nothing follows: `end` is then the size of the content. */
  last: boolean
}

export interface ChunkedUpload {
  /** Exact size of every chunk but the last, in bytes. Chunks are adjacent unless `currentOffset` differs. */
  chunkSize: number
  signal: AbortSignal
  /** Sends a chunk. @returns the offset that the platform has reached: `chunk.end` if it accepted all of it */
  send(chunk: Chunk): Promise<number>
  /**
   * Returns the offset that the platform has reached; called after a failure. Without this function a failed chunk is
   * sent again as a whole, for platforms that accept a chunk twice.
   */
  currentOffset?(): Promise<number>
  /** Maximum number of attempts without progress. */
  attempts?: number
  /** Delay before the second attempt in ms; it doubles with each further one. */
  firstDelay?: number
}

/** Default attempts and delay; see {@link ChunkedUpload}. */
export const defaultRetryPolicy = { attempts: 6, firstDelay: 500 }

/** Longest `Retry-After` that an upload waits for; a longer one fails the upload, and the client can wait longer. */
const maxChunkRetryAfterMs = 30_000

/**
 * Uploads the content in chunks, with one chunk in memory. A chunk that fails for a transient reason (connection lost,
 * 408, 429, 5xx) is retried with backoff, from the offset that the platform reports: the chunk's start, its end if only
 * the response was lost, or inside the chunk. In the last case the next chunk begins there and has the full size again,
 * because a platform may reject a short chunk in the middle. Empty content sends nothing. Destroys `content.stream`
 * when it fails.
 * @throws the failure of the last attempt, the reason of `signal`, `platform-protocol-error` for an impossible offset,
 *   `incomplete-upload` when the stream does not contain `content.size` bytes
 */
export async function uploadInChunks(content: Content, upload: ChunkedUpload): Promise<void> {
  const { stream } = content
  const { signal } = upload
  // The signal must also end a wait for the source.
  const stop = () => void stream.destroy()
  signal.addEventListener('abort', stop, { once: true })
  try {
    signal.throwIfAborted()
    const cutter = cut(content, upload.chunkSize)
    for (let chunk = await cutter.next(); chunk; chunk = await cutter.next()) {
      signal.throwIfAborted()
      content.hold()
      cutter.backTo(await sendChunk(chunk, upload))
    }
  } catch (error) {
    stream.destroy()
    signal.throwIfAborted()
    throw error
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

interface Cutter {
  /** @returns undefined when there is nothing left. @throws GatewayError `incomplete-upload` for a wrong size */
  next(): Promise<Chunk | undefined>
  /** Sets the start of the next chunk, inside or at the end of the last one. */
  backTo(offset: number): void
}

/** Splits a stream into chunks. Copies each byte once, and reads ahead to recognize the last chunk. */
function cut({ stream, size }: Content, chunkSize: number): Cutter {
  const source: AsyncIterator<Buffer> = stream[Symbol.asyncIterator]()
  /** Data that was read and is not part of a chunk yet. */
  let piece = Buffer.alloc(0)
  let ended = false
  let chunk: Chunk | undefined
  let start = 0

  return {
    async next() {
      const again = chunk?.bytes.subarray(start - chunk.start) ?? new Uint8Array()
      if (ended && again.length === 0) return undefined
      // Never reuse the memory of the previous chunk: a lost connection may still reference it.
      const bytes = Buffer.allocUnsafe(Math.min(chunkSize, (size ?? Number.POSITIVE_INFINITY) - start))
      bytes.set(again)
      let filled = again.length
      while (!ended && (filled < bytes.length || piece.length === 0)) {
        if (piece.length === 0) {
          const read = await source.next()
          ended = read.done === true
          if (!ended) piece = read.value
        }
        const copied = piece.copy(bytes, filled)
        filled += copied
        piece = piece.subarray(copied)
      }
      const end = start + filled
      if (size !== null && (ended ? end !== size : end + piece.length > size))
        throw new GatewayError('incomplete-upload', `The file does not have the announced ${size} bytes.`)
      chunk = { bytes: bytes.subarray(0, filled), start, end, last: ended }
      return filled > 0 ? chunk : undefined
    },
    backTo(offset) {
      start = offset
    },
  }
}

/** Sends a chunk until the platform is beyond its start. @returns the offset that the platform has reached */
function sendChunk(chunk: Chunk, upload: ChunkedUpload): Promise<number> {
  return repeat(upload, isTransient, async (attempt) => {
    if (attempt > 1 && upload.currentOffset) {
      const offset = checkOffset(chunk, await upload.currentOffset())
      if (offset > chunk.start) return offset
    }
    const reached = checkOffset(chunk, await upload.send(chunk))
    if (reached > chunk.start) return reached
    throw new GatewayError('platform-unavailable', 'the platform accepted none of the data sent')
  })
}

/**
 * Retries a step of an upload, with a growing delay, while it fails for a reason that `transient` accepts.
 * @throws the failure of the last attempt, or the reason of `signal`
 */
export async function repeat<T>(
  retries: Pick<ChunkedUpload, 'attempts' | 'firstDelay' | 'signal'>,
  transient: (error: unknown) => boolean,
  step: (attempt: number) => Promise<T>,
): Promise<T> {
  const {
    signal,
    attempts = defaultRetryPolicy.attempts,
    firstDelay = defaultRetryPolicy.firstDelay,
  } = retries
  for (let attempt = 1; ; ) {
    try {
      return await step(attempt)
    } catch (error) {
      signal.throwIfAborted()
      const delay = delayBefore(++attempt, firstDelay, error)
      if (!transient(error) || attempt > attempts || delay > maxChunkRetryAfterMs) throw error
      // Rejects only when the signal aborts; then its reason is thrown.
      await sleep(delay, undefined, { signal }).catch(() => signal.throwIfAborted())
    }
  }
}

function checkOffset(chunk: Chunk, offset: number): number {
  if (offset >= chunk.start && offset <= chunk.end) return offset
  throw new GatewayError('platform-protocol-error', 'the platform reported an impossible offset')
}

/** Returns a delay that doubles with each attempt, with jitter of up to half; at least as the platform requested. */
function delayBefore(attempt: number, firstDelay: number, error: unknown): number {
  const asked = error instanceof GatewayError ? (error.retryAfter ?? 0) * 1000 : 0
  return Math.max(asked, firstDelay * 2 ** (attempt - 2) * (0.5 + Math.random() / 2))
}
