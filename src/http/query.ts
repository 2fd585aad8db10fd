import type { FastifyInstance } from 'fastify'
import { GatewayError } from '../errors.ts'

/**
 * Rejects a query whose percent-encoding is malformed, or not of UTF-8 (RFC 3986 §2.1, WHATWG URL §1.3). Read leniently, a
 * filter would silently become another one.
 */
export function checkQueries(server: FastifyInstance): void {
  server.addHook('onRequest', ({ url }, _reply, done) => {
    const start = url.indexOf('?')
    done(start < 0 || isDecodable(url.slice(start + 1)) ? undefined : malformedQuery())
  })
}

function isDecodable(query: string): boolean {
  try {
    decodeURIComponent(query)
    return true
  } catch {
    return false
  }
}

function malformedQuery(): GatewayError {
  return new GatewayError(
    'invalid-request',
    'The query is not percent-encoded UTF-8. Write a percent sign as %25, and other characters as the bytes of their UTF-8.',
  )
}
