import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { Readable } from 'node:stream'
import type { GatewayError } from '../errors.ts'
import { countStreamedBytes } from '../publication/buffer-collector.ts'

const stopped = new WeakSet<Socket>()
const bodyErrors = new WeakMap<IncomingMessage, GatewayError>()

/**
 * Takes a connection away from Node's HTTP parser for good: no further byte becomes part of a request, and all that
 * arrives is discarded. Node has no call for it; with its listeners gone, the parser gets neither data nor the end.
 * Not to be called while the parser is running.
 */
export function stopParsing(socket: Socket): void {
  if (stopped.has(socket)) return
  stopped.add(socket)
  socket.removeAllListeners('data').removeAllListeners('end')
  // A listener for data also ends the parser's direct access to the handle. If the parser had paused the handle, the
  // stream still waits for the read that it began before the parser took over: the empty chunk ends it.
  socket.on('data', ({ length }) => countStreamedBytes(length))
  // The socket of Fastify's `inject` is not a stream.
  if (!(socket instanceof Readable)) return
  socket.push('')
  socket.resume()
}

/** Whether `stopParsing` was called. */
export function isParsingStopped(socket: Socket): boolean {
  return stopped.has(socket)
}

const surplus = new WeakSet<Socket>()

/** Notes whether the bytes that are parsed next came behind a request before its response was sent. */
export function noteSurplus(socket: Socket, isBehindRequest: boolean): void {
  if (isBehindRequest) surplus.add(socket)
  else surplus.delete(socket)
}

/**
 * Whether the bytes that the parser works on came behind a request before its response was sent. If they are malformed,
 * they are not a request of their own: a response to them could be mistaken for the response to the client's next request.
 */
export function isSurplus(socket: Socket): boolean {
  return surplus.has(socket)
}

/**
 * Ends the body of a request with an error. The handler that reads the body then responds with that error.
 * `request.destroy` by itself would close the connection, so that no response could be sent.
 */
export function failBody(request: IncomingMessage, error: GatewayError): void {
  request._destroy = (_error, done) => done(request.listenerCount('error') > 0 ? error : null)
  bodyErrors.set(request, error)
  request.destroy()
}

/** The error that `failBody` ended the body of this request with, for those who did not read it then. */
export function bodyErrorOf(request: IncomingMessage): GatewayError | undefined {
  return bodyErrors.get(request)
}
