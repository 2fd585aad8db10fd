import type { IncomingMessage } from 'node:http'
import { isIPv6 } from 'node:net'
import type { FastifyRequest } from 'fastify'
import { GatewayError } from '../errors.ts'
import { valuesOf } from './connections.ts'
import { markLastOnConnection } from './requests-in-progress.ts'

/** `uri-host [ ":" port ]` of RFC 9110 §7.2, with the reg-name of RFC 3986 §3.2.2. */
const hostForm = /^(?:\[([^\]]+)\]|(?:[\w.~!$&'()*+;=-]|%[\da-f]{2})+)(?::(\d{0,5}))?$/i

/** The protocol of request lines that Node's parser accepts as HTTP: RTSP/1.0, ICE/1.0. */
const foreignProtocol = /(RTSP|ICE)\/\d\.\d\r?$/

const problems = new WeakMap<IncomingMessage, string>()

/** @param line the request line, or its end */
export function inspectRequestLine(request: IncomingMessage, line: string): void {
  const [, protocol] = foreignProtocol.exec(line) ?? []
  if (protocol) problems.set(request, `The protocol ${protocol} is not supported. Use HTTP/1.1.`)
}

/**
 * Finds framing that a server in front of the gateway could interpret differently. What follows such a request on its
 * connection is not handled. To be called when the request arrives, before the parser continues.
 */
export function inspectFraming(request: IncomingMessage): void {
  const problem =
    problems.get(request) ??
    problemOfVersion(request) ??
    problemOfHost(request) ??
    problemOfTransferCoding(request)
  if (!problem) return
  problems.set(request, problem)
  markLastOnConnection(request)
}

/** @throws GatewayError `invalid-request` if `inspectFraming` found a problem */
export function checkFraming({ raw }: FastifyRequest): void {
  const detail = problems.get(raw)
  if (detail) throw new GatewayError('invalid-request', detail)
}

/** Node's parser also accepts 0.9 and 2.0, which are framed in another way (RFC 9112 §2.3, RFC 9113 §3). */
function problemOfVersion({ httpVersion }: IncomingMessage): string | undefined {
  if (['1.0', '1.1'].includes(httpVersion)) return undefined
  return `HTTP/${httpVersion} is not supported. Use HTTP/1.1.`
}

/** RFC 9112 §3.2: no Host header in HTTP/1.1, several ones or an invalid value MUST be answered with 400. */
function problemOfHost(request: IncomingMessage): string | undefined {
  const hosts = valuesOf(request, 'host')
  if (hosts.length === 0 && request.httpVersion === '1.0') return undefined
  if (hosts.length !== 1) return `The request has ${hosts.length} Host headers. Send exactly one.`
  const [valid, address, port] = hostForm.exec(hosts[0] as string) ?? []
  if (valid && (!address || isIPv6(address)) && Number(port ?? 0) <= 65_535) return undefined
  return 'The Host header is not valid. Send the host name of the URL, with its port if it has one.'
}

/**
 * The parser accepts any list that ends in `chunked`, and compressed bytes would pass as content. RFC 9112 §6.1:
 * Transfer-Encoding in HTTP/1.0 MUST be treated as faulty framing, after which the connection MUST be closed.
 */
function problemOfTransferCoding(request: IncomingMessage): string | undefined {
  const codings = valuesOf(request, 'transfer-encoding')
  if (codings.length === 0) return undefined
  if (request.httpVersion === '1.0')
    return 'HTTP/1.0 has no Transfer-Encoding. Send Content-Length, or use HTTP/1.1.'
  if (codings.join(', ').toLowerCase() === 'chunked') return undefined
  return 'The Transfer-Encoding is not supported. Send `Transfer-Encoding: chunked` alone, or Content-Length.'
}
