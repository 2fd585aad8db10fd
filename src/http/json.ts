import type { FastifyInstance } from 'fastify'

/**
 * Reads JSON bodies. An empty one counts as none: many generated clients put the media type on a `DELETE` too. Where
 * there has to be a body, its schema says so.
 */
export function readJson(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error')
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) =>
    body.length === 0 ? done(null, undefined) : parse(request, body as string, done),
  )
}
