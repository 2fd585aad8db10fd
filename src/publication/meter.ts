import { createHash } from 'node:crypto'
import { GatewayError } from '../errors.ts'

export interface MeterOptions {
  /** The exact size in bytes if it is known, else null. */
  size: number | null
  /** A lower bound in bytes, where the size is not known exactly. */
  minSize?: number | undefined
  maxBytes: number
  /** Makes the error for more or fewer bytes than `size`; `incomplete-upload` by default. */
  onSizeMismatch?: ((detail: string) => GatewayError) | undefined
  /** Whether to compute the SHA-256 of the bytes. */
  computeDigest?: boolean | undefined
}

/** Counts streamed content, and withholds any byte that contradicts the announced size. */
export interface Meter {
  /**
   * @returns the bytes to pass on: the whole chunk, or none when it completes the announced size. That chunk is
   *   withheld until the end shows that nothing follows: a platform with every announced byte considers the file
   *   complete.
   * @throws GatewayError when the bytes are too many
   */
  take(chunk: Buffer): Buffer | undefined
  /** @returns the withheld bytes. @throws GatewayError when the bytes are too few */
  end(): Buffer | undefined
  /** Bytes seen so far. */
  received(): number
  /** Whether the content ended, at its announced size. */
  complete(): boolean
  /** SHA-256 of all bytes in base64url, once complete; undefined if it was not requested. */
  digest(): string | undefined
}

/** @throws GatewayError when the announced size is zero or above the limit */
export function createMeter(options: MeterOptions): Meter {
  const { size, minSize = 0, maxBytes, onSizeMismatch = incomplete, computeDigest } = options
  if ((size ?? minSize) > maxBytes) throw tooLarge(maxBytes)
  if (size === 0) throw incomplete('The file is empty.')
  const hash = computeDigest ? createHash('sha256') : undefined
  let received = 0
  let complete = false
  let digest: string | undefined
  let kept: Buffer | undefined

  return {
    take(chunk) {
      received += chunk.length
      hash?.update(chunk)
      if (received > maxBytes) throw tooLarge(maxBytes)
      if (size !== null && received > size)
        throw onSizeMismatch(`The file is longer than the announced ${size} bytes.`)
      if (received !== size) return chunk
      kept = chunk
      return undefined
    },
    end() {
      if (size !== null && received < size)
        throw onSizeMismatch(`The file ended after ${received} of the announced ${size} bytes. Upload again.`)
      complete = true
      digest = hash?.digest('base64url')
      return kept
    },
    received: () => received,
    complete: () => complete,
    digest: () => digest,
  }
}

/** Returns the error for a body that ended before the file did. */
export function incomplete(detail: string, cause?: unknown): GatewayError {
  return new GatewayError('incomplete-upload', detail, { cause })
}

function tooLarge(maxBytes: number): GatewayError {
  return new GatewayError('content-too-large', `The file is larger than the limit of ${maxBytes} bytes.`)
}
