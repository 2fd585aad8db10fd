import { AsyncLocalStorage } from 'node:async_hooks'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Log } from '../platform/tools.ts'

/** The trace that a request belongs to. */
export interface Trace {
  /** 32 hex digits. */
  traceId: string
  /** Go with every call to a platform that the request causes. */
  headers: Record<string, string>
  /** Calls `next` in a further context, if there has to be one. */
  enter?(next: () => void): void
}

/** Finds, or begins, the trace of a request; undefined when it has none. */
export type TraceOf = (request: FastifyRequest, reply: FastifyReply) => Trace | undefined

declare module 'fastify' {
  interface FastifyRequest {
    trace?: Trace
  }
}

/** The request that what runs now belongs to. */
const current = new AsyncLocalStorage<{ requestId: string; trace: Trace | undefined }>()

/** Puts the trace of each request around its handler, and its id into the request's log lines. */
export function traceRequests(server: FastifyInstance, traceOf: TraceOf = incomingTrace): void {
  server.addHook('onRequest', (request, reply, done) => {
    const trace = traceOf(request, reply)
    if (trace) {
      request.trace = trace
      request.log = reply.log = request.log.child({ traceId: trace.traceId })
    }
    done()
  })
  // Not earlier: what runs after a body was read does not run in the context of the hooks before.
  server.addHook('preHandler', ({ id, method, trace }, _reply, done) => {
    // Reads log nothing of their own, and are many.
    if (!trace && method === 'GET') return done()
    current.run({ requestId: id, trace }, () => (trace?.enter ? trace.enter(done) : done()))
  })
}

/** The headers that a call to a platform carries on; none where no request, or one without a trace, caused it. */
export function traceHeaders(): Record<string, string> | undefined {
  return current.getStore()?.trace?.headers
}

/** A log whose lines bear the ids of the request, and of its trace, that caused them. */
export function withRequestId(log: Log): Log {
  const named = (fields: object) => {
    const { requestId, trace } = current.getStore() ?? {}
    return { ...fields, ...(requestId && { requestId }), ...(trace && { traceId: trace.traceId }) }
  }
  return {
    info: (fields, message) => log.info(named(fields), message),
    warn: (fields, message) => log.warn(named(fields), message),
    error: (fields, message) => log.error(named(fields), message),
  }
}

/**
 * What the caller sent, to be passed on as it is (https://www.w3.org/TR/trace-context/): one valid `traceparent`, and
 * then `tracestate`. Later versions may say more than the four fields of 00.
 */
function incomingTrace({ raw: { headers } }: FastifyRequest): Trace | undefined {
  const { traceparent, tracestate } = headers
  if (typeof traceparent !== 'string') return undefined
  const [, version, traceId, more] =
    /^([0-9a-f]{2})-([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[\w-]*)?$/.exec(traceparent) ?? []
  if (!traceId || /^0+$/.test(traceId) || version === 'ff' || (version === '00' && more)) return undefined
  // Platforms need not bear more than the 512 characters that have to be passed on (§3.3.1.5).
  const state = typeof tracestate === 'string' && /^[\x20-\x7e]{1,512}$/.test(tracestate)
  return { traceId, headers: { traceparent, ...(state && { tracestate }) } }
}
