import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { ConnectionError, FastifyInstance, FastifyRequest } from 'fastify'
import { GatewayError, problems } from '../errors.ts'
import { document } from './problem.ts'
import { streamedTypes } from './validation.ts'

/** How long the head of a request may take, and a body that is not content. Milliseconds. */
export const requestDeadline = 8_000

/** How long a refused request may go on sending its body, so that it can read the refusal first. Milliseconds. */
const lingering = 5_000

/** How long the sender of broken HTTP may take to read what was wrong. Milliseconds. */
const farewell = 1_000

/**
 * Answers `Expect: 100-continue` only when somebody reads the body, so that a refused upload is not sent at all
 * (RFC 9110 §10.1.1). Other expectations count for nothing.
 */
export function routeExpectations(server: FastifyInstance): void {
  server.server.on('checkContinue', (request, response) => {
    request.once('resume', () => {
      if (!response.headersSent) response.writeContinue()
    })
    server.routing(request, response)
  })
  server.server.on('checkExpectation', server.routing)
}

/**
 * Two servers on the way could take a request with several hosts for different ones (RFC 9112 §3.2).
 * @throws GatewayError
 */
export function expectOneHost({ raw }: FastifyRequest): void {
  const hosts = valuesOf(raw, 'host').length
  if (hosts > 1 || (hosts === 0 && raw.httpVersion !== '1.0'))
    throw new GatewayError('invalid-request', 'a request has one Host header')
}

/** Every value of a header field, where Node shows only the first. @param name in lower case */
export function valuesOf({ rawHeaders }: IncomingMessage, name: string): string[] {
  const values: string[] = []
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const field = rawHeaders[index] as string
    if (field.length === name.length && field.toLowerCase() === name)
      values.push(rawHeaders[index + 1] as string)
  }
  return values
}

/**
 * A body that is read as a whole, such as JSON, has to be there soon, however its bytes drip. Content is not cut
 * here: it has its own rule for standing still.
 */
export function cutSlowBodies(server: FastifyInstance): void {
  server.addHook('preParsing', ({ raw, headers }, _reply, payload, done) => {
    done(null, payload)
    if (headers['content-length'] === undefined && headers['transfer-encoding'] === undefined) return
    const type = headers['content-type']?.split(';', 1)[0]?.trim().toLowerCase() ?? ''
    if (streamedTypes.includes(type)) return
    const timer = setTimeout(() => {
      // Whoever reads the body answers with this error; if nobody does, there is nobody to tell.
      if (payload.listenerCount('error') > 0) payload.emit('error', lateRequest())
      else if (!raw.complete) raw.socket.destroy()
    }, requestDeadline).unref()
    const stop = () => clearTimeout(timer)
    raw.once('end', stop).once('close', stop)
  })
}

export function lateRequest(): GatewayError {
  return new GatewayError('request-timeout', `it was not complete after ${requestDeadline / 1000} s`)
}

/** A connection whose request was answered before its body ended is given a moment and then closed. */
export function closeCutConnections(server: FastifyInstance): void {
  server.addHook('onSend', ({ raw }, _reply, payload, done) => {
    // The form's parser must not get what is still to come: nobody reads it there.
    if (!raw.readableEnded) raw.unpipe()
    done(null, payload)
  })
  server.addHook('onResponse', ({ raw }, { statusCode }, done) => {
    done()
    if (raw.complete || raw.destroyed) return
    // Who was too slow to send gets no more time.
    if (statusCode === 408) return raw.socket.destroySoon()
    raw.resume()
    const timer = setTimeout(() => raw.socket.destroy(), lingering).unref()
    raw.once('close', () => clearTimeout(timer)).once('end', () => clearTimeout(timer))
  })
}

/** Answers what is no proper HTTP, where no route is reached (Node's `clientError`). */
export function answerBrokenRequests(error: ConnectionError, socket: Socket): void {
  const known: Record<string, GatewayError> = {
    HPE_HEADER_OVERFLOW: new GatewayError('headers-too-large'),
    ERR_HTTP_REQUEST_TIMEOUT: lateRequest(),
  }
  // The answer to an earlier request may be half sent: nothing can be said in the middle of it.
  const answering = (socket as { _httpMessage?: { headersSent: boolean } | null })._httpMessage?.headersSent
  if (error.code === 'ECONNRESET' || !socket.writable || answering) return void socket.destroy()
  const problem = known[error.code] ?? new GatewayError('invalid-request', 'the request is no proper HTTP')
  const body = JSON.stringify(document(problem))
  const { status } = problems[problem.code]
  socket.end(
    `HTTP/1.1 ${status} ${status === 400 ? 'Bad Request' : 'Error'}\r\nContent-Type: application/problem+json\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  )
  // Whoever never closes their side, or goes on sending, does not keep the connection.
  socket.resume()
  const timer = setTimeout(() => socket.destroy(), farewell).unref()
  socket.once('close', () => clearTimeout(timer))
}
