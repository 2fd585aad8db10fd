import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { GatewayError } from '../errors.ts'
import type { Drains } from '../http/drain.ts'
import type { RequestDrain } from '../http/shutdown.ts'
import type { Background } from './background.ts'

/** Time that aborted requests and checks have to settle their rows and to send their responses, in ms. */
const abortGraceMs = 3_000
/** Part of that time for deletions from platforms, in ms; the rest is for their responses. */
const cleanupGraceMs = 2_500
/** Time that the remaining connections have to receive data that was already sent, in ms. */
const closeGraceMs = 1_000

/** The signals that end the work of the gateway, with a GatewayError as their reason. */
export interface EndSignals {
  /** Aborted when the work must end. */
  work: AbortSignal
  /** Aborted later: until then, deletions from platforms may clean up after work that was aborted. */
  cleanup: AbortSignal
  abort(reason: GatewayError): void
}

export function createEndSignals(): EndSignals {
  const work = new AbortController()
  const cleanup = new AbortController()
  return {
    work: work.signal,
    cleanup: cleanup.signal,
    abort(reason) {
      work.abort(reason)
      setTimeout(() => cleanup.abort(reason), cleanupGraceMs).unref()
    },
  }
}

export interface Closing {
  drain: RequestDrain
  drains: Drains
  signals: EndSignals
  background: Background
  /** Closes what the work was done with, once it has ended. */
  close(): Promise<void>
}

/** Registers what happens when the server closes: all work is aborted, and has a short time to end in order. */
export function closeInOrder(
  server: FastifyInstance,
  { drain, drains, signals, background, close }: Closing,
): void {
  server.addHook('preClose', async () => {
    drain.start()
    drains.shorten()
    const reason = new GatewayError('shutting-down', 'The gateway is shutting down. Send the request again.')
    signals.abort(reason)
    drain.interruptBodies(reason)
    await Promise.all([
      drain.wait(abortGraceMs),
      Promise.race([background.stop(), sleep(abortGraceMs, undefined, { ref: false })]),
    ])
    // The server would wait forever for half a request, or for a client that does not read its response.
    setTimeout(() => server.server.closeAllConnections(), closeGraceMs).unref()
  })
  server.addHook('onClose', close)
}
