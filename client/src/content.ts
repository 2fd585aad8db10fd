/** The mp4: a `Blob` (in Node `await openAsBlob(path)` of `node:fs`), or bytes from anywhere. */
export type Content = Blob | { bytes: AsyncIterable<Uint8Array>; size?: number | undefined }

const largestPiece = 256 * 1024

export interface Progress {
  /** Bytes handed to the connection so far. */
  sent: number
  /** The size of the content, undefined when it is not known. */
  total: number | undefined
}

export function sizeOf(content: Content): number | undefined {
  return content.size
}

/**
 * The content as the body of a request: read only as fast as the connection takes it. It ends with the signal, for
 * fetch would go on reading what it has no use for any more.
 */
export function streamOf(
  content: Content,
  onProgress: (progress: Progress) => void = () => {},
  signal?: AbortSignal,
): ReadableStream<Uint8Array> {
  const total = sizeOf(content)
  let sent = 0
  const source = content instanceof Blob ? blobBytes(content) : content.bytes
  const iterator = source[Symbol.asyncIterator]()
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { value, done } = await iterator.next()
        if (done) return controller.close()
        if (signal?.aborted) {
          await iterator.return?.()
          return controller.error(signal.reason)
        }
        sent += value.byteLength
        controller.enqueue(value)
        onProgress({ sent, total })
      },
      async cancel() {
        await iterator.return?.()
      },
    },
    { highWaterMark: 0 },
  )
}

/** Not every runtime can iterate over a stream of the platform. */
async function* blobBytes(blob: Blob): AsyncGenerator<Uint8Array> {
  const reader = blob.stream().getReader()
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield* pieces(next.value)
  } finally {
    await reader.cancel()
  }
}

/** A blob in memory comes in one piece, which would tell nothing of its progress. */
function* pieces(bytes: Uint8Array): Generator<Uint8Array> {
  for (let start = 0; start < bytes.length; start += largestPiece) {
    yield bytes.subarray(start, start + largestPiece)
  }
}
