/**
 * How many bytes the file of a form has, before they have come. The Content-Length counts everything, and what stands
 * before the file is known; but what follows the closing delimiter is not: RFC 2046 leaves it to the sender whether a
 * line break is there, and senders differ. Where a platform needs the length, this is the evidence, the best first:
 *
 * 1. the field `size`, which callers may send before the file;
 * 2. the end of the file, when it is among the first bytes;
 * 3. the part's own Content-Length (Spring, OkHttp), if it can be right: RFC 7578 §4.8 has it ignored otherwise;
 * 4. the sizes of the file's boxes, when they add up;
 * 5. how the sender ends its forms, where its boundary tells who it is;
 * 6. one CRLF, as most senders have it.
 */

/** Bytes behind the closing delimiter, without padding: no CRLF, one or two. */
const endings = [0, 2, 4]

/**
 * Senders that end a form otherwise than with one CRLF. The fetch of Node up to 20.18 and 22.12 (undici up to 6.20)
 * ends it with none as well, but its boundary is that of later versions, which end it with one.
 */
const knownEndings: [boundary: RegExp, ending: number][] = [
  // needle
  [/^-+NODENEEDLEHTTPCLIENT/, 0],
  // node-fetch 3, formdata-polyfill: dashes and digits, 32 characters
  [/^(?=.{32}$)-{4,}\d+$/, 0],
  // form-data-encoder: got, openai, and others, with any FormData
  [/^form-data-boundary-[0-9a-z]{16}$/, 4],
]

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
 * Estimates the size of a file that nobody declared.
 * @param head the first bytes of the file @param whole whether they are all of it
 */
export function estimateSize(framing: FormFraming, head: Buffer, whole: boolean): number {
  if (whole) return head.length
  const largest = largestSize(framing)
  const possible = endings.map((ending) => largest - ending)
  const told = [framing.partLength, ...endsOfBoxes(head, largest)].find((size) =>
    possible.includes(size ?? -1),
  )
  if (told !== undefined) return told
  const [, ending = 2] = knownEndings.find(([pattern]) => pattern.test(framing.boundary)) ?? []
  return Math.max(0, largest - ending)
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
