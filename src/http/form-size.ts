import { senderEndings } from './form-endings.ts'

/**
 * Computes the size of a form's file before its bytes have arrived. Content-Length counts the whole body, and the bytes
 * before the file are known. Unknown are the bytes after the closing delimiter: RFC 2046 leaves it to the sender whether
 * a CRLF follows, and senders differ. If a platform requires the length, this is the evidence, the best first:
 *
 * 1. the field `size`, which clients may send before the file;
 * 2. the end of the file, when it is among the first bytes;
 * 3. the part's own Content-Length (Spring, OkHttp), if it is possible; otherwise it is ignored (RFC 7578 §4.8);
 * 4. the sizes of the MP4's boxes, if they add up;
 * 5. how the sender ends its forms, if its boundary identifies it.
 *
 * Without any of it, two or three sizes remain possible.
 */

/** Number of bytes of the file that are examined, and the time to wait for them. */
export const lookahead = { bytes: 1024 * 1024, milliseconds: 2_000 }

export interface FormFraming {
  boundary: string
  /** Content-Length of the body in bytes, NaN when it has none. */
  total: number
  /** Offset of the file in the body. */
  start: number
  /** Content-Length of the file's part, in bytes. */
  partLength: number | undefined
}

/** Returns the size of the file if the body ends with the closing delimiter; NaN if unknown. */
function largestSize({ boundary, total, start }: FormFraming): number {
  return Math.max(0, total - start - `\r\n--${boundary}--`.length)
}

/** Whether a file may have this size. The closing delimiter may be followed by up to 64 bytes of padding. */
export function isPossibleSize(framing: FormFraming, size: number): boolean {
  const largest = largestSize(framing)
  return Number.isNaN(largest) || (size <= largest && size >= largest - 64)
}

/**
 * Returns the sizes that a file may have whose size was not declared, the most likely one first; only one when the
 * evidence is good. When there are several, the largest one is an upper bound.
 * @param head the first bytes of the file @param whole whether they are the whole file
 */
export function possibleSizes(framing: FormFraming, head: Buffer, whole: boolean): number[] {
  if (whole) return [head.length]
  const largest = largestSize(framing)
  const sizes = senderEndings(framing.boundary).map((ending) => Math.max(0, largest - ending))
  const told = [framing.partLength, ...endsOfBoxes(head, largest)].find((size) =>
    [0, 2, 4].includes(largest - (size ?? -1)),
  )
  return told === undefined ? sizes : [told]
}

/**
 * Returns where the top-level boxes of an MP4 end whose headers are among its first bytes (ISO/IEC 14496-12 §4.2). If
 * the index is at the start of the file, the last of these boxes usually ends the file.
 */
function endsOfBoxes(head: Buffer, largest: number): number[] {
  const ends: number[] = []
  for (let at = 0; at + 16 <= head.length; ) {
    const short = head.readUInt32BE(at)
    const size = short === 1 ? Number(head.readBigUInt64BE(at + 8)) : short
    if (size < 8 || at + size > largest) break
    at += size
    ends.push(at)
  }
  return ends
}
