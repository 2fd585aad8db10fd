import { METHODS } from 'node:http'

const LF = 0x0a
const CR = 0x0d
/** Characters of a request line that are kept: those of its protocol. */
const endLength = 16

export interface RequestLineWatch {
  /** Sees the bytes of a request until the end of its line. */
  see(bytes: Buffer): void
  /** The end of the line, when the headers of its request have been parsed; the next bytes are of another one. */
  take(): string
}

/** Keeps the end of each request line, which Node's parser does not hand out. */
export function watchRequestLines(): RequestLineWatch {
  let line = ''
  let complete = false
  return {
    see(bytes) {
      if (complete) return
      const start = line === '' ? lengthOfLineBreaks(bytes) : 0
      const end = bytes.indexOf(LF, start)
      const stop = end < 0 ? bytes.length : end
      line = (line + bytes.toString('latin1', Math.max(start, stop - endLength), stop)).slice(-endLength)
      complete = end >= 0
    },
    take() {
      const taken = line
      line = ''
      complete = false
      return taken
    },
  }
}

/** Whether no request can begin with these bytes: not with a method that Node's parser knows (RFC 9112 §2.2, §3). */
export function cannotBeginRequest(bytes: Buffer): boolean {
  const start = lengthOfLineBreaks(bytes)
  const text = bytes.toString('latin1', start, start + endLength)
  const [method = ''] = text.split(' ', 1)
  return method === text ? !METHODS.some((known) => known.startsWith(method)) : !METHODS.includes(method)
}

/** A server ignores line breaks before a request (RFC 9112 §2.2). */
function lengthOfLineBreaks(bytes: Buffer): number {
  const start = bytes.findIndex((byte) => byte !== CR && byte !== LF)
  return start < 0 ? bytes.length : start
}
