import { createServer, type RequestListener, type Server } from 'node:http'
import { type ConnectionLimits, limitConnections } from './connection-limits.ts'
import { requestDeadline } from './connections.ts'
import type { Drains } from './drain.ts'
import { inspectFraming } from './framing.ts'
import { endAfterResponses, trackRequest } from './requests-in-progress.ts'

/** An idle connection outlives the usual 60 s of a proxy, so that the proxy is the one to close it. Milliseconds. */
const keepAliveMs = 72_000

/**
 * Makes Node's HTTP servers for Fastify, which needs one for each address of `localhost`.
 * @param onRefused called when connections are refused, at most once per minute
 * @returns the `serverFactory` option of Fastify
 */
export function createHttpServers(drains: Drains, limits: ConnectionLimits, onRefused: () => void) {
  return (handler: RequestListener): Server => {
    const server = createServer({
      // Only the headers have a deadline here: an upload takes as long as bytes keep coming.
      headersTimeout: requestDeadline,
      requestTimeout: 0,
      connectionsCheckingInterval: 1_000,
      keepAliveTimeout: keepAliveMs,
      insecureHTTPParser: false,
      // Node would respond without a problem document; `checkFraming` responds instead.
      requireHostHeader: false,
    })
    limitConnections(server, limits, onRefused)
    // A client may close its side once its request is complete, as `nc -N` does, and still gets the response. Node then
    // closes the connection after the last response. An incomplete request ends with the error of the parser.
    Object.assign(server, { httpAllowHalfOpen: true })
    // Node calls this after the last response of a connection, and would close the socket with bytes unread.
    server.on('connection', (socket) => {
      socket.destroySoon = () => drains.close(socket)
      socket.on('end', () => endAfterResponses(socket))
    })
    server.on('request', (request, response) => {
      if (!trackRequest(request, response)) return
      inspectFraming(request)
      handler(request, response)
    })
    // Node sends 100 itself unless it is asked not to. The body of a rejected upload is not worth sending, so 100 is
    // sent only when a handler starts to read it (RFC 9110 §10.1.1).
    server.on('checkContinue', (request, response) => {
      request.once('resume', () => {
        if (!response.headersSent) response.writeContinue()
      })
      server.emit('request', request, response)
    })
    // Without a listener Node would close the connection without a response; with one it removes its error handler.
    server.on('connect', (request, stream) => {
      for (const end of [request.socket, stream]) end.on('error', () => end.destroy())
      server.emit('clientError', Object.assign(new Error('CONNECT'), { code: 'HPE_CONNECT' }), request.socket)
    })
    // Other expectations are ignored.
    server.on('checkExpectation', (request, response) => void server.emit('request', request, response))
    return server
  }
}
