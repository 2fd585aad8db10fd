import { randomUUID } from 'node:crypto'
import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { ConnectionError, FastifyInstance } from 'fastify'
import { GatewayError, problems } from '../errors.ts'
import { requestTimeout } from './connections.ts'
import { failBody, isParsingStopped, isSurplus, stopParsing } from './parsing.ts'
import { problemDocument } from './problem.ts'
import { closeAfterResponses, incompleteRequest } from './requests-in-progress.ts'

/** The advice for each error, by the parser's code and reason. The first pattern that matches counts. */
const details: [RegExp, string][] = [
  [
    /can't be present with/,
    'The request has both Content-Length and Transfer-Encoding. Send Content-Length if the size is known, otherwise `Transfer-Encoding: chunked`, never both.',
  ],
  [/Duplicate Content-Length/, 'The request has more than one Content-Length. Send it once.'],
  [
    /CONTENT_LENGTH/,
    'The Content-Length is not valid. Send the number of bytes in the body, in decimal digits.',
  ],
  [
    /TRANSFER_ENCODING/,
    'The Transfer-Encoding is not supported. Send `Transfer-Encoding: chunked` alone, or Content-Length.',
  ],
  [
    /CHUNK|after chunk/,
    'The chunks of the body are malformed. Send each as its size in hexadecimal digits, CRLF, the data, CRLF.',
  ],
  [
    /HPE_CONNECT/,
    'CONNECT is not supported: the gateway is not a proxy. Send the request to the path of the call.',
  ],
  [/METHOD/, 'The request does not begin with an HTTP method in capital letters.'],
  [/CRLF|CR_|LF_/, 'A line of the request is not ended by CRLF.'],
  [/VERSION|H2_UPGRADE/, 'The HTTP version is not supported. Use HTTP/1.1.'],
  [
    /URL|CONSTANT/,
    'The request line is malformed. Percent-encode spaces and other special characters in the path.',
  ],
  [/HEADER_TOKEN/, 'A header contains a character that is not allowed in its name or value.'],
  [/EOF/, 'The connection was closed before the end of the request.'],
]

/**
 * Handles malformed HTTP, for which no route is reached (Node's `clientError`). A body in progress ends with an error, so
 * that the handler of its request responds. Behind a complete request that is in progress, only that request gets a
 * response: a second one could be mistaken for the response to another request.
 */
export function rejectMalformedRequest(this: FastifyInstance, error: ConnectionError, socket: Socket): void {
  if (isParsingStopped(socket)) return
  const timedOut = error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
  // Without a byte there is no request: a port probe, or a connection that a browser opened in advance.
  const isRequest = (timedOut || error.code?.startsWith('HPE_')) && socket.bytesRead > 0
  if (!isRequest || !socket.writable) return void socket.destroy()

  const problem = timedOut ? requestTimeout() : problemOf(error)
  const request = incompleteRequest(socket)
  if (request) {
    stopParsing(socket)
    failBody(request, error.code === 'HPE_INVALID_EOF_STATE' ? truncated() : problem)
    return
  }
  const requestId = randomUUID()
  const { code, message: detail } = problem
  this.log.info({ requestId, code, detail, ip: socket.remoteAddress }, 'malformed request')
  if (closeAfterResponses(socket)) return
  if (isSurplus(socket)) return void socket.destroySoon()
  socket.write(responseTo(problem, requestId))
  socket.destroySoon()
}

function truncated(): GatewayError {
  return new GatewayError('incomplete-upload', 'The connection was closed before the end of the body.')
}

/** @param error of Node's HTTP parser (llhttp); its `rawPacket` is a Buffer, contrary to Fastify's type */
function problemOf(error: ConnectionError): GatewayError {
  const {
    code,
    reason = '',
    rawPacket,
  } = error as unknown as { code: string; reason?: string; rawPacket?: Buffer }
  if (code === 'HPE_HEADER_OVERFLOW') return new GatewayError('headers-too-large')
  // The first byte of a TLS record that holds a handshake.
  if (code === 'HPE_INVALID_METHOD' && rawPacket?.[0] === 0x16)
    return new GatewayError(
      'invalid-request',
      'This port does not speak TLS. Use http://, or the address of the proxy.',
    )
  const [, detail] = details.find(([pattern]) => pattern.test(`${code} ${reason}`)) ?? []
  return new GatewayError('invalid-request', detail ?? 'The request is malformed HTTP.')
}

function responseTo(problem: GatewayError, requestId: string): string {
  const { status } = problems[problem.code]
  const body = JSON.stringify({ ...problemDocument(problem), requestId })
  const headers = {
    Date: new Date().toUTCString(),
    'Content-Type': 'application/problem+json',
    'Content-Length': Buffer.byteLength(body),
    'Cache-Control': 'no-store',
    'X-Request-Id': requestId,
    Connection: 'close',
  }
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  return `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.join('')}\r\n${body}`
}
