import { openFile } from './file.ts'

/**
 * The MP4: the path of a file (Node), a `Blob`, its bytes (`Buffer`, `Uint8Array`, `ArrayBuffer`), or a stream of them
 * (`Readable`, `ReadableStream`, any other `AsyncIterable`). The size of a stream is not known unless it comes with it.
 */
export type Content = string | URL | Blob | Bytes | { bytes: Bytes | Blob; size?: number | undefined }

type Bytes = Uint8Array | ArrayBuffer | ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>

/** Content that is ready to be sent. */
export interface OpenContent {
  bytes: AsyncIterable<Uint8Array>
  /** In bytes; undefined when it is not known. */
  size: number | undefined
}

const largestPiece = 256 * 1024

export interface Progress {
  /** Bytes handed to the connection so far. */
  sent: number
  /** The size of the content, undefined when it is not known. */
  total: number | undefined
}

/** Invalid content, or a stream that yields invalid chunks. */
export class NotContentError extends TypeError {
  override readonly name = 'TypeError'
}

/** @throws NotContentError that lists the valid types; an Error with the reason why a file cannot be read */
export async function openContent(content: Content): Promise<OpenContent> {
  if (typeof content === 'string' || content instanceof URL) return openContent(await openFile(content))
  if (content instanceof Blob) return { bytes: readerBytes(content.stream().getReader()), size: content.size }
  if (content instanceof Uint8Array) return { bytes: memoryBytes(content), size: content.byteLength }
  if (content instanceof ArrayBuffer) return openContent(new Uint8Array(content))
  if (content instanceof ReadableStream) return { bytes: readerBytes(content.getReader()), size: undefined }
  if (isIterable(content)) return { bytes: content, size: undefined }
  const { bytes, size } = (content ?? {}) as { bytes?: Content; size?: unknown }
  if (bytes === undefined || typeof bytes === 'string' || !(size === undefined || isLength(size)))
    throw new NotContentError(`content must be ${expected}; this is ${nameOf(content)}`)
  const { bytes: opened, size: known } = await openContent(bytes)
  return { bytes: opened, size: size ?? known }
}

const expected =
  'the path of a file, a Blob, a Buffer or Uint8Array, a Readable, a ReadableStream, an AsyncIterable of Uint8Array, or { bytes, size } of these'

/**
 * The content as the body of a request: read only as fast as the connection takes it. It ends with the signal,
 * because fetch would continue to read it needlessly.
 */
export function streamOf(
  { bytes, size }: OpenContent,
  onProgress: (progress: Progress) => void = () => {},
  signal?: AbortSignal,
): ReadableStream<Uint8Array> {
  let sent = 0
  const iterator = bytes[Symbol.asyncIterator]()
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { value, done } = await iterator.next()
        if (done) return controller.close()
        if (signal?.aborted) {
          await iterator.return?.()
          return controller.error(signal.reason)
        }
        if (!(value instanceof Uint8Array)) {
          await iterator.return?.()
          throw new NotContentError(
            `a stream of content must yield Uint8Array, without an encoding; this one yields ${nameOf(value)}`,
          )
        }
        sent += value.byteLength
        controller.enqueue(value)
        onProgress({ sent, total: size })
      },
      async cancel() {
        await iterator.return?.()
      },
    },
    { highWaterMark: 0 },
  )
}

/** Not every runtime can iterate over a stream of the platform. */
async function* readerBytes(reader: ReadableStreamDefaultReader<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      // A blob in memory is a single chunk.
      if (next.value instanceof Uint8Array) yield* pieces(next.value)
      else yield next.value
    }
  } finally {
    await reader.cancel()
  }
}

async function* memoryBytes(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield* pieces(bytes)
}

/** Splits a large chunk, which would show no progress. */
function* pieces(bytes: Uint8Array): Generator<Uint8Array> {
  for (let start = 0; start < bytes.length; start += largestPiece) {
    yield bytes.subarray(start, start + largestPiece)
  }
}

function isIterable(content: unknown): content is AsyncIterable<Uint8Array> {
  return typeof (content as AsyncIterable<Uint8Array> | null)?.[Symbol.asyncIterator] === 'function'
}

function isLength(size: unknown): size is number {
  return Number.isSafeInteger(size) && (size as number) >= 0
}

function nameOf(value: unknown): string {
  if (value === null || value === undefined) return String(value)
  if (typeof value !== 'object') return `a ${typeof value}`
  const name = Object.getPrototypeOf(value)?.constructor?.name
  return name && name !== 'Object'
    ? `a ${name}`
    : `an object with ${Object.keys(value).join(', ') || 'nothing'}`
}
