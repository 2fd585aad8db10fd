import type { FastifyInstance, FastifyRequest } from 'fastify'
import { GatewayError } from '../errors.ts'

/**
 * Rejects bodies in a content coding, because the gateway decodes none (RFC 9110 §8.4), and ignores the type of a
 * missing body: many generated clients send one with a `DELETE`.
 */
export function checkBodies(server: FastifyInstance): void {
  server.addHook('onRequest', (request, _reply, done) => {
    if (request.method === 'DELETE' && !hasBody(request)) delete request.headers['content-type']
    done()
  })
  server.addHook('preParsing', (request, _reply, payload, done) => {
    const coding = request.headers['content-encoding']?.trim().toLowerCase()
    if (coding && coding !== 'identity' && hasBody(request))
      return done(
        new GatewayError('unsupported-media-type', 'Send the body uncompressed, without Content-Encoding.'),
      )
    done(null, payload)
  })
}

/** RFC 9112 §6.3: without these headers a request has no body. */
function hasBody({ headers }: FastifyRequest): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) !== 0
}
