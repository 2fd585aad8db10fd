import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { inspectRequestLine } from './framing.ts'
import { interposeParser } from './parser-input.ts'
import { isParsingStopped, noteSurplus } from './parsing.ts'
import { cannotBeginRequest, watchRequestLines } from './request-line.ts'

/** Ends the headers of a request, and a chunked body with its trailers (RFC 9112 §2.1 and §7.1). */
const sectionEnd = Buffer.from('\r\n\r\n')
const empty = Buffer.alloc(0)
/**
 * Maximum number of connections whose next request waits for the client to read a response. Each holds up to 128 KiB:
 * what one read from the socket returns, twice. Only clients that pipeline wait at all; browsers and proxies do not.
 */
const maxWaiting = 128
/** Number of bytes after which the rest of a body goes straight to the parser. */
const largeBodyBytes = 256 * 1024
/** Maximum number of requests in progress when the end of such a body and further requests come in one packet. */
const maxBurst = 8

/**
 * Parses one request per connection at a time: the bytes of the next one wait, unparsed, until the client has read the
 * response. Otherwise Node parses everything that one packet holds, up to 1,700 requests, and keeps all the responses in
 * memory. Responses must come in the order of the requests (RFC 9112 §9.3.2: a server "MUST send the corresponding responses in the same
 * order that the requests were received"). A connection that would have to
 * wait when too many others do is closed.
 */
export function limitPipelining(server: Server): void {
  const connections = new WeakMap<Socket, Connection>()
  const waitingRoom = createWaitingRoom()
  server.on('connection', (socket) => connections.set(socket, guardConnection(socket, waitingRoom)))
  server.on('request', (request, response) => connections.get(request.socket)?.begin(request, response))
  server.on('clientError', (_error, socket) => connections.get(socket as Socket)?.stop())
}

interface Connection {
  begin(request: IncomingMessage, response: ServerResponse): void
  /** Discards all further bytes. */
  stop(): void
}

/** Stands between a socket and Node's parser, which it feeds section by section. */
function guardConnection(socket: Socket, waitingRoom: WaitingRoom): Connection {
  const input = interposeParser(socket, feed)
  const requestLines = watchRequestLines()
  /** Requests whose response is not finished. */
  let pending = 0
  let latest: IncomingMessage | undefined
  /** Whether the client of the latest request wants to keep the connection. */
  let kept = true
  /** Remaining bytes of the latest request's body, if it announced their number. */
  let bodyBytesLeft = 0
  /** Last bytes of a section that continues in the next packet. */
  let tail: Buffer = empty
  /** Number of bytes since the latest request began. */
  let fed = 0
  let feeding = false
  let released = false
  let stopped = false
  /** Whether the next bytes had to wait for a response. */
  let waited = false
  /** Number of requests so far. */
  let begun = 0
  input.intercept()
  socket.once('close', () => waitingRoom.leave(socket))

  return {
    begin(request, response) {
      // A listener of `checkContinue` may emit `request`.
      if (request === latest) return
      pending++
      begun++
      latest = request
      kept = response.shouldKeepAlive
      fed = 0
      inspectRequestLine(request, requestLines.take())
      intercept()
      // After a body that went straight to the parser, the parser may already have more of this packet.
      bodyBytesLeft = feeding ? Number(request.headers['content-length'] ?? 0) : 0
      // More than one can be pending only if they arrived in one packet with the end of a large body.
      if (pending > maxBurst) socket.destroy()
      response.once('close', () => {
        pending--
        intercept()
        waitingRoom.resumeNext(socket)
      })
    },
    stop() {
      stopped = true
      intercept()
    },
  }

  // A request ends at the end of a section, so it is known between two sections whether there is a response to wait for.
  function feed(chunk: Buffer): void {
    const before = begun
    const behind = waited
    waited = false
    for (let rest = chunk; rest.length > 0; ) {
      if (stopped || socket.destroyed || isParsingStopped(socket)) return
      // Bytes that cannot begin a request do not wait, so that the response in progress announces the end of the connection.
      const wait = mustWait() && !(kept && latest?.complete && cannotBeginRequest(rest))
      if (wait && !waitingRoom.enter(socket)) return void socket.destroy()
      if (wait || isPaused(socket)) {
        waited = behind || wait || begun > before
        socket.pause()
        socket.unshift(rest)
        return
      }
      const section = rest.subarray(0, bodyBytesLeft > 0 ? bodyBytesLeft : lengthOfSection(rest))
      rest = rest.subarray(section.length)
      noteSurplus(socket, behind || begun > before)
      fed += section.length
      if (bodyBytesLeft > 0) bodyBytesLeft -= section.length
      if (latest?.complete !== false) requestLines.see(section)
      feeding = true
      input.parse(section)
      feeding = false
    }
    if (fed > largeBodyBytes && latest?.complete === false) released = input.release()
  }

  /** Returns the number of bytes up to the end of this section, which may have begun in an earlier packet. */
  function lengthOfSection(bytes: Buffer): number {
    const seam = tail.length > 0 ? Buffer.concat([tail, bytes.subarray(0, 3)]).indexOf(sectionEnd) : -1
    const end = seam < 0 ? bytes.indexOf(sectionEnd) : seam - tail.length
    const found = seam >= 0 || end >= 0
    tail = found ? empty : Buffer.concat([tail, bytes.subarray(-3)]).subarray(-3)
    return found ? end + sectionEnd.length : bytes.length
  }

  /** Whether the next bytes must wait: a request without a response may be followed only by the rest of its own body. */
  function mustWait(): boolean {
    return pending > 1 || (pending === 1 && latest?.complete === true)
  }

  function intercept(): void {
    // Another listener for data means that the connection no longer belongs to the parser.
    if (released && !socket.destroyed && socket.listenerCount('data') === 0) {
      input.intercept()
      bodyBytesLeft = 0
      tail = empty
    }
    released = false
  }
}

/** Whether the body's reader, or Node's own limit on responses in the queue, has paused the socket and will resume it. */
function isPaused(socket: Socket): boolean {
  return socket.isPaused() || (socket as { _paused?: boolean })._paused === true
}

interface WaitingRoom {
  /** @returns false when too many connections wait already */
  enter(socket: Socket): boolean
  leave(socket: Socket): void
  /** Resumes the connection in its turn, if it is waiting. */
  resumeNext(socket: Socket): void
}

/**
 * The connections that wait. One of them is resumed per turn of the event loop, so that requests on other connections,
 * which come with the next poll for I/O, do not wait for hundreds of them.
 */
function createWaitingRoom(): WaitingRoom {
  const waiting = new Set<Socket>()
  const queue: Socket[] = []
  const resume = () => {
    const socket = queue.shift()
    if (socket && waiting.delete(socket) && !socket.writableEnded) socket.resume()
    if (queue.length > 0) setImmediate(resume)
  }
  return {
    enter(socket) {
      if (waiting.size < maxWaiting) waiting.add(socket)
      return waiting.has(socket)
    },
    leave: (socket) => void waiting.delete(socket),
    resumeNext(socket) {
      if (waiting.has(socket) && queue.push(socket) === 1) setImmediate(resume)
    },
  }
}
