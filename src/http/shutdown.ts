import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { GatewayError } from '../errors.ts'
import { failBody } from './parsing.ts'

/** Methods that change nothing (RFC 9110 §9.2.1); they are served until the listener closes. */
const safeMethods = ['GET', 'HEAD', 'OPTIONS']
/** `Retry-After` of a rejected request, until another process is available, in seconds. */
const retryAfter = 5

export interface RequestDrain {
  /** From now on requests that change something are rejected, and every response closes its connection. */
  start(): void
  started(): boolean
  /** Aborted by `start`. */
  signal: AbortSignal
  /** Resolves when all requests that are in progress now have ended, after `ms` at the latest, or when `cut` fires. */
  wait(ms: number, cut?: AbortSignal): Promise<void>
  /** Fails the requests whose body is still being read. */
  interruptBodies(reason: GatewayError): void
}

/**
 * Keeps account of the requests in progress: from the end of their headers until their handler has settled and their
 * response was sent, or their connection closed. To be called before the routes are registered.
 */
export function drainRequests(server: FastifyInstance): RequestDrain {
  const inProgress = new Set<Promise<unknown>>()
  const requests = new Set<FastifyRequest>()
  const started = new AbortController()

  function track(ended: Promise<unknown>): void {
    const entry = ended.then(remove, remove)
    function remove() {
      inProgress.delete(entry)
    }
    inProgress.add(entry)
  }

  server.addHook('onRequest', (request, reply, done) => {
    if (started.signal.aborted && !safeMethods.includes(request.method))
      return done(new GatewayError('shutting-down', undefined, { retryAfter }))
    requests.add(request)
    track(
      new Promise<void>((resolve) => {
        reply.raw.once('close', () => {
          requests.delete(request)
          resolve()
        })
      }),
    )
    done()
  })
  // A handler goes on after its client has left.
  server.addHook('onRoute', (route) => {
    const { handler } = route
    route.handler = function (request, reply) {
      const result = handler.call(this, request, reply)
      if (result instanceof Promise) track(result)
      return result
    }
  })
  server.addHook('onSend', (_request, reply, payload, done) => {
    if (started.signal.aborted) reply.header('connection', 'close')
    done(null, payload)
  })

  return {
    start: () => started.abort(),
    started: () => started.signal.aborted,
    signal: started.signal,
    async wait(ms, cut) {
      const timeout = new AbortController()
      const signal = cut ? AbortSignal.any([cut, timeout.signal]) : timeout.signal
      const expired = sleep(ms, undefined, { signal }).catch(() => {})
      await Promise.race([Promise.all(inProgress), expired])
      timeout.abort()
    },
    interruptBodies(reason) {
      for (const { raw } of requests) if (!raw.complete) failBody(raw, reason)
    },
  }
}
