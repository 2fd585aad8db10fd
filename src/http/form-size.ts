import { senderEndings } from './form-endings.ts'

/**
 * How many bytes the file of a form has, before they have come. The Content-Length counts everything, and what stands
 * before the file is known; but what follows the closing delimiter is not: RFC 2046 leaves it to the sender whether a
 * line break is there, and senders differ. Where a platform requires the length, this is the evidence, the best first:
 *
 * 1. the field `size`, which clients may send before the file;
 * 2. the end of the file, when it is among the first bytes;
 * 3. the part's own Content-Length (Spring, OkHttp), if it can be right: RFC 7578 §4.8 has it ignored otherwise;
 * 4. the sizes of the file's boxes, when they add up;
 * 5. how the sender ends its forms, where its boundary identifies it.
 *
 * Without any, two or three lengths remain possible.
 */

/** How much of the file is looked at, and for how long. */
export const lookahead = { bytes: 1024 * 1024, milliseconds: 2_000 }

export interface FormFraming {
  boundary: string
  /** Content-Length of the body in bytes, NaN when it has none. */
  total: number
  /** Offset of the file in the body. */
  start: number
  /** What the part of the file says of its length, in bytes. */
  partLength: number | undefined
}

/** The size of the file if the body ends with the closing delimiter; NaN if unknown. */
function largestSize({ boundary, total, start }: FormFraming): number {
  return Math.max(0, total - start - `\r\n--${boundary}--`.length)
}

/** Whether a file of this size fits the form, but for the padding that its closing delimiter may have. */
export function isPossibleSize(framing: FormFraming, size: number): boolean {
  const largest = largestSize(framing)
  return Number.isNaN(largest) || (size <= largest && size >= largest - 64)
}

/**
 * Returns the sizes that a file may have whose size was not declared, the most likely one first; only one when the
 * evidence is good. When there are several, the largest one is an upper bound.
 * @param head the first bytes of the file @param whole whether they are all of it
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
 * Where the top-level boxes of an MP4 end whose headers are among its first bytes (ISO/IEC 14496-12 §4.2). Of a file
 * with its index in front, the last one mostly ends the file.
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
