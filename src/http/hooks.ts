import type { FastifyInstance } from 'fastify'
import type { Metrics } from '../observability/metrics.ts'
import { type TraceOf, traceRequests } from '../observability/tracing.ts'
import { checkBodies } from './bodies.ts'
import { keepWhileWaiting } from './connection-limits.ts'
import { enforceBodyDeadline } from './connections.ts'
import { announceEarlyResponses } from './early-responses.ts'
import { checkFraming } from './framing.ts'
import { readJson } from './json.ts'
import { registerLimits } from './limits.ts'
import { registerProblems } from './problem.ts'
import { checkQueries } from './query.ts'
import { observeRequests } from './request-log.ts'
import { registerSecurityHeaders } from './security-headers.ts'
import { drainRequests, type RequestDrain } from './shutdown.ts'

export interface HookOptions {
  metrics: Metrics
  traceOf: TraceOf | undefined
  publicUrl: string | undefined
}

/**
 * Registers the hooks of every request, in the order in which they run. Trace and log come first, so that a request
 * that a later hook rejects has them too. To be called before the routes are registered.
 * @returns the account of the requests in progress
 */
export async function registerHooks(
  server: FastifyInstance,
  { metrics, traceOf, publicUrl }: HookOptions,
): Promise<RequestDrain> {
  traceRequests(server, traceOf)
  observeRequests(server, metrics)
  announceEarlyResponses(server)
  registerSecurityHeaders(server, publicUrl)
  await registerLimits(server)
  server.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id)
    keepWhileWaiting(reply.raw)
    checkFraming(request)
    done()
  })
  checkQueries(server)
  const drain = drainRequests(server)
  enforceBodyDeadline(server)
  checkBodies(server)
  readJson(server)
  registerProblems(server)
  return drain
}
