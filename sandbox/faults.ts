import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { type FaultRule, type Operation, takeFault } from './knobs.ts'
import type { Platform } from './platform.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    operation?: Operation
  }
  interface FastifyRequest {
    fault: FaultRule | null
  }
}

/** Thrown to send the response of a fault rule instead of the platform's own. */
export class InjectedAnswer extends Error {
  readonly rule: FaultRule

  constructor(rule: FaultRule) {
    super('injected')
    this.rule = rule
  }

  send(reply: FastifyReply) {
    const { status, headers, text } = responseOf(this.rule)
    return reply.code(status).headers(headers).send(text)
  }
}

function responseOf({ status = 500, headers = {}, body }: FaultRule) {
  const given = body ?? { fault: { kind: 'injected', text: `answered ${status} on demand` } }
  if (typeof given === 'string') return { status, headers, text: given }
  return { status, headers: { 'content-type': 'application/json', ...headers }, text: JSON.stringify(given) }
}

/** Counts the calls and injects the faults of the fault rules. */
export function faultHooks(app: FastifyInstance, platform: Platform): void {
  app.decorateRequest('fault', null)

  app.addHook('onRequest', async (request) => {
    const { operation } = request.routeOptions.config
    if (!operation) return
    platform.counters.calls[operation] += 1
    request.fault = takeFault(platform.knobs, operation) ?? null
    // The fault of an upload is injected while its body is read.
    if (request.fault && !request.fault.late && operation !== 'ingest')
      await applyFault(request.fault, request)
  })

  app.addHook('onSend', async (request, reply, payload) => {
    const { fault } = request
    if (!fault) await held(platform, request)
    if (!fault?.late) return payload
    request.fault = null
    try {
      await applyFault(fault, request)
    } catch (error) {
      if (!(error instanceof InjectedAnswer)) throw error
      const { status = 500, headers = {}, body = '' } = fault
      reply.code(status).headers(headers).removeHeader('content-length')
      return typeof body === 'string' ? body : JSON.stringify(body)
    }
    return payload
  })
}

/** Waits while responses of the request's operation are held back and its client is connected. */
async function held({ counters, knobs }: Platform, { raw, routeOptions }: FastifyRequest): Promise<void> {
  const { operation } = routeOptions.config
  counters.held_answers += 1
  while (operation && knobs.hold.includes(operation) && !raw.socket.destroyed) await delay(5)
  // A reset in the meantime has restarted the counts.
  counters.held_answers = Math.max(0, counters.held_answers - 1)
}

/** Returns the fault for this request. */
export const faultOf = (request: FastifyRequest): FaultRule | null => request.fault

/**
 * Injects a fault after its delay: hangs until the client leaves, resets the connection (after a response, if the rule
 * has one), or throws the response to send. Returns if the rule is only a delay.
 */
export async function applyFault(rule: FaultRule, request: FastifyRequest): Promise<void> {
  if (rule.delay_ms) await delay(rule.delay_ms)
  const { socket } = request.raw
  if (rule.reset && rule.status !== undefined) socket.write(rawResponse(rule), () => socket.resetAndDestroy())
  else if (rule.reset) socket.resetAndDestroy()
  if (rule.reset || rule.hang) {
    const closed = socket.destroyed ? undefined : once(socket, 'close').catch(() => {})
    if (rule.hang) await Promise.race([delay(rule.stall_ms ?? 1000, undefined, { ref: false }), closed])
    drain(request.raw)
    await closed
    throw new Error('the connection is gone')
  }
  if (rule.status !== undefined) throw new InjectedAnswer(rule)
}

/** Response of a server that then closes the connection without reading the rest of the request. */
function rawResponse(rule: FaultRule): string {
  const { status, headers, text } = responseOf(rule)
  const lines = Object.entries({ ...headers, 'content-length': String(Buffer.byteLength(text)) })
  const head = lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')
  return `HTTP/1.1 ${status} Injected\r\n${head}\r\n${text}`
}

/** Reads and discards the rest: an unread connection does not show that the client has left. */
function drain(raw: IncomingMessage): void {
  // The upload's loop waits by this listener, under which a stream does not flow.
  raw.removeAllListeners('readable')
  setImmediate(() => raw.resume())
}
