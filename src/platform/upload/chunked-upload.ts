import { setTimeout as sleep } from 'node:timers/promises'
import { GatewayError } from '../../errors.ts'
import { isTransient } from '../http/failures.ts'
import type { Content } from '../platform.ts'

/** A piece of the content: the bytes from `start` up to, without, `end`. */
export interface Chunk {
  bytes: Uint8Array
  start: number
  end: number
  /** True when nothing follows: `end` is then the size of the content. */
  last: boolean
}

export interface ChunkedUpload {
  /** Exact size of every chunk but the last, in bytes. Unless `where` says otherwise, they lie side by side. */
  chunkSize: number
  signal: AbortSignal
  /** Sends what is given. @returns the offset at which the platform stands then: `chunk.end` when it took all */
  send(chunk: Chunk): Promise<number>
  /**
   * Asked after a failure: the offset at which the platform stands. Without it a chunk is sent again as a whole,
   * which is right where the platform takes a chunk twice.
   */
  currentOffset?(): Promise<number>
  /** How often the platform is tried without getting any further. */
  attempts?: number
  /** Delay before the second attempt in ms; it doubles with each further one. */
  firstDelay?: number
}

/** How long a platform is tried by default; see {@link ChunkedUpload}. */
export const defaultRetryPolicy = { attempts: 6, firstDelay: 500 }

/** A platform that asks for more patience fails the upload: the caller can plan a longer wait. */
const maxChunkRetryAfterMs = 30_000

/**
 * Uploads the content piece by piece, with one chunk in memory. What fails for a passing reason (connection lost, 408,
 * 429, 5xx) is tried again after a back-off, from where the platform says it stands: at the chunk's start, at its end
 * when only the answer was lost, or inside of it; then the next chunk begins there and is of full size again, for a
 * platform may refuse a short one in the middle. Empty content sends nothing. Destroys `content.stream` when it fails.
 * @throws the failure of the last attempt, the reason of `signal`, `platform-protocol-error` for an offset that cannot
 *   be, `incomplete-upload` when the stream does not hold `content.size` bytes
 */
export async function uploadInChunks(content: Content, upload: ChunkedUpload): Promise<void> {
  const { stream } = content
  const { signal } = upload
  // Waiting for the source has to end with the signal, too.
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
  /** The next chunk begins here, inside or at the end of the last one. */
  backTo(offset: number): void
}

/** Cuts a stream into chunks. Copies each byte once, and reads one piece ahead, which tells the chunk that is the last. */
function cut({ stream, size }: Content, chunkSize: number): Cutter {
  const source: AsyncIterator<Buffer> = stream[Symbol.asyncIterator]()
  /** What was read and is in no chunk yet. */
  let piece = Buffer.alloc(0)
  let ended = false
  let chunk: Chunk | undefined
  let start = 0

  return {
    async next() {
      const again = chunk?.bytes.subarray(start - chunk.start) ?? new Uint8Array()
      if (ended && again.length === 0) return undefined
      // Never the memory of the chunk before: a lost connection may still hold on to it.
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

/** Gets the platform further than the chunk's start. @returns where it stands then */
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
 * Repeats a step of an upload, with a growing delay, while it fails for a reason that `transient` accepts.
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
      // It only rejects when the signal aborts, and then the signal's reason counts.
      await sleep(delay, undefined, { signal }).catch(() => signal.throwIfAborted())
    }
  }
}

function checkOffset(chunk: Chunk, offset: number): number {
  if (offset >= chunk.start && offset <= chunk.end) return offset
  throw new GatewayError('platform-protocol-error', 'the platform reported an impossible offset')
}

/** Doubles from the second attempt on, with jitter between a half and the whole; never less than was asked for. */
function delayBefore(attempt: number, firstDelay: number, error: unknown): number {
  const asked = error instanceof GatewayError ? (error.retryAfter ?? 0) * 1000 : 0
  return Math.max(asked, firstDelay * 2 ** (attempt - 2) * (0.5 + Math.random() / 2))
}
