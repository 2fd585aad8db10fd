import { createHash } from 'node:crypto'
import { GatewayError } from '../errors.ts'

export interface MeterOptions {
  /** The exact size in bytes if it is known, else null. */
  size: number | null
  /** A lower bound in bytes, where the size is not known exactly. */
  minSize?: number | undefined
  maxBytes: number
  /** What it means that the bytes are more or fewer than `size`; `incomplete-upload` if not given. */
  onSizeMismatch?: ((detail: string) => GatewayError) | undefined
  /** Whether to tell the SHA-256 of the bytes in the end. */
  computeDigest?: boolean | undefined
}

/** Counts content that passes by, and lets no byte pass that proves the announced size wrong. */
export interface Meter {
  /**
   * @returns the bytes that may go on: all of the chunk, or none when it fills the announced size. It is kept back until
   *   the end proves that nothing follows: a platform that has every announced byte takes the file for complete.
   * @throws GatewayError when the bytes are too many
   */
  take(chunk: Buffer): Buffer | undefined
  /** @returns the bytes that were kept back. @throws GatewayError when the bytes are too few */
  end(): Buffer | undefined
  /** Bytes seen so far. */
  received(): number
  /** Whether the end came, and in the right place. */
  complete(): boolean
  /** SHA-256 of all bytes in base64url, once complete; undefined when it was not asked for. */
  digest(): string | undefined
}

/** @throws GatewayError when the announced size alone rules the content out */
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

/** What it means that the body ended before the file did. */
export function incomplete(detail: string, cause?: unknown): GatewayError {
  return new GatewayError('incomplete-upload', detail, { cause })
}

function tooLarge(maxBytes: number): GatewayError {
  return new GatewayError('content-too-large', `The file is larger than the limit of ${maxBytes} bytes.`)
}
