import type { Socket } from 'node:net'
import type { ConnectionError, FastifyInstance } from 'fastify'
import { GatewayError, type ProblemCode, problems } from './errors.ts'
import { document } from './routes/problem.ts'

/** How long a refused request may go on sending its body, so that it can read the refusal first. Milliseconds. */
const lingering = 5_000

/**
 * Answers `Expect: 100-continue` only when somebody reads the body, so that a refused upload is not sent at all
 * (RFC 9110 §10.1.1).
 */
export function continueWhenRead(server: FastifyInstance): void {
  server.server.on('checkContinue', (request, response) => {
    request.once('resume', () => {
      if (!response.headersSent) response.writeContinue()
    })
    server.routing(request, response)
  })
}

/** A connection whose request was answered before its body ended is given a moment and then closed. */
export function closeCutConnections(server: FastifyInstance): void {
  server.addHook('onSend', async (request) => {
    // The form's parser must not get what is still to come: nobody reads it there.
    if (!request.raw.readableEnded) request.raw.unpipe()
  })
  server.addHook('onResponse', async ({ raw }) => {
    if (raw.complete || raw.destroyed) return
    raw.resume()
    const timer = setTimeout(() => raw.socket.destroy(), lingering).unref()
    raw.once('close', () => clearTimeout(timer)).once('end', () => clearTimeout(timer))
  })
}

/** Answers what is no proper HTTP, where no route is reached (Node's `clientError`). */
export function answerBrokenRequests(error: ConnectionError, socket: Socket): void {
  const codes: Record<string, ProblemCode> = {
    HPE_HEADER_OVERFLOW: 'headers-too-large',
    ERR_HTTP_REQUEST_TIMEOUT: 'upload-timeout',
  }
  if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy()
  const problem = new GatewayError(codes[error.code] ?? 'invalid-request', 'the request is no proper HTTP')
  const body = JSON.stringify(document(problem))
  const { status } = problems[problem.code]
  socket.end(
    `HTTP/1.1 ${status} ${status === 400 ? 'Bad Request' : 'Error'}\r\nContent-Type: application/problem+json\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  )
}
