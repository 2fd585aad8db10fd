import { isUtf8 } from 'node:buffer'
import type { FastifyInstance } from 'fastify'
import { GatewayError } from '../errors.ts'
import { parseHeaderValue } from './media-type.ts'

/** JSON is UTF-8 (RFC 8259 §8.1), of which ASCII is a part. */
const charsets = ['utf-8', 'utf8', 'us-ascii']

/**
 * Reads JSON bodies. An empty one counts as none: many generated clients put the media type on a `DELETE` too. Where
 * there has to be a body, its schema says so.
 */
export function readJson(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error')
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    const charset = parseHeaderValue(request.headers['content-type'] ?? '')?.parameters.get('charset')
    if (charset !== undefined && !charsets.includes(charset.toLowerCase()))
      return done(new GatewayError('unsupported-media-type', 'Send JSON in UTF-8, without another charset.'))
    if (body.length === 0) return done(null, undefined)
    if (!isUtf8(body as Buffer)) return done(invalidBody('is not valid UTF-8: send JSON in UTF-8'))
    const text = body.toString()
    return parse(request, text, (error, value) => done(error && explain(text), value))
  })
}

/** The parser rejects malformed JSON, and members that could change the prototype of an object. */
function explain(text: string): GatewayError {
  try {
    JSON.parse(text)
    return invalidBody('must not have a member `__proto__`, or `constructor` with a member `prototype`')
  } catch {
    return invalidBody('is not valid JSON')
  }
}

function invalidBody(message: string): GatewayError {
  return new GatewayError('invalid-request', undefined, { errors: [{ path: '', message }] })
}
