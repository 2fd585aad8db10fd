import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

/**
 * A response that never completes, as raw bytes: what comes first, and what is then sent again and again, every `every`
 * ms, or as fast as it is taken; with nothing to repeat, silence.
 */
interface Script {
  first: string
  again?: string
  every?: number
}

const chunked = (status: string) =>
  `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n`
const every = 20
const flood = 'x'.repeat(65_536)

/** Slow: each piece comes in time, the whole never does. */
export const slow = {
  'a head, byte by byte': { first: 'HTTP/1.1 200 OK\r\nx-slow: ', again: 'x', every },
  'a train of 103 Early Hints': { first: '', again: 'HTTP/1.1 103 Early Hints\r\nlink: </>\r\n\r\n', every },
  'a train of 102 Processing': { first: '', again: 'HTTP/1.1 102 Processing\r\n\r\n', every },
  'a body, byte by byte': { first: chunked('200 OK'), again: '1\r\n \r\n', every },
  'a body of a stated length, byte by byte': {
    first: 'HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{',
    again: ' ',
    every,
  },
  'a chunk extension, byte by byte': { first: `${chunked('200 OK')}1;x=`, again: 'x', every },
  'trailers, byte by byte': { first: `${chunked('200 OK')}2\r\n{}\r\n0\r\nx-slow: `, again: 'x', every },
} satisfies Record<string, Script>

/** Silent, after some of it. */
export const silent = {
  'a body that stops one byte short': { first: 'HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}' },
  'a body without its last chunk': { first: `${chunked('200 OK')}2\r\n{}\r\n` },
  'half a head': { first: 'HTTP/1.1 200 OK\r\nconte' },
} satisfies Record<string, Script>

/** More than any response has. */
export const huge = {
  'a body without end': { first: chunked('200 OK'), again: `10000\r\n${flood}\r\n` },
  'a body until the connection ends': { first: 'HTTP/1.1 200 OK\r\n\r\n', again: flood },
  'a body of a stated size': {
    first: 'HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n',
    again: flood,
  },
  'a head without end': { first: 'HTTP/1.1 200 OK\r\nx-long: ', again: flood },
} satisfies Record<string, Script>

/** The status is there; the body, which nobody needs, never ends. */
export const refused = {
  '503 with a body, byte by byte': { first: chunked('503 Down'), again: '1\r\n \r\n', every },
  '503 with a body without end': { first: chunked('503 Down'), again: `10000\r\n${flood}\r\n` },
} satisfies Record<string, Script>

const scripts: Record<Wire, Script> = { ...slow, ...silent, ...huge, ...refused }
export type Wire = keyof typeof slow | keyof typeof silent | keyof typeof huge | keyof typeof refused

/** Writes a script to the connection of a request, until the other side ends it. */
export async function writeWire({ socket, method }: IncomingMessage, wire: Wire): Promise<void> {
  // A response to HEAD has no body: nothing but its head can be slow.
  const bodyless = method === 'HEAD' && !/head|train/.test(wire)
  const { first, again, every } = scripts[bodyless ? 'a train of 103 Early Hints' : wire]
  socket.on('error', () => {})
  // Some of these come while the request's body does.
  socket.resume()
  socket.write(first)
  while (again !== undefined && !socket.destroyed) {
    const taken = socket.write(again)
    if (every) await sleep(every)
    else if (!taken) await Promise.race([once(socket, 'drain'), once(socket, 'close')])
    else await sleep(0)
  }
}

function once(socket: Socket, event: string): Promise<void> {
  return new Promise((resolve) => socket.once(event, () => resolve()))
}
