import type { FastifyInstance } from 'fastify'
import type { Metrics } from '../observability/metrics.ts'
import { harmlessPath } from '../observability/redaction.ts'
import { bodyErrorOf } from './parsing.ts'

/** Stands for a caller who left before the answer, as in nginx's logs; never sent. */
const clientClosedRequest = 499

/** Counts each request when it is over, and logs those that changed something or failed. */
export function observeRequests(server: FastifyInstance, metrics: Metrics): void {
  server.addHook('onRequest', (request, reply, done) => {
    reply.raw.once('close', () => {
      const { method, url, routeOptions, principal } = request
      // A body that was cut off has a response, but hardly anybody to read it.
      const left = !reply.raw.writableFinished || bodyErrorOf(request.raw)?.code === 'incomplete-upload'
      const status = left ? clientClosedRequest : reply.statusCode
      const seconds = reply.elapsedTime / 1000
      metrics.request({ method, route: routeOptions.url ?? 'unknown', status, seconds })
      // Callers, probes and scrapers look all the time: what changes nothing and went well is only counted.
      const level = method === 'GET' && status < 400 ? 'debug' : 'info'
      const caller = principal && { client: principal.name, clientKind: principal.kind }
      request.log[level]({ method, path: harmlessPath(url), status, seconds, ...caller }, 'request')
    })
    done()
  })
}
