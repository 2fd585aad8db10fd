import type { FastifyInstance, FastifyReply } from 'fastify'
import { stopParsing } from './parsing.ts'
import { isLastOnConnection } from './requests-in-progress.ts'

/**
 * A response that is sent while the body is still arriving announces that the connection closes, and nothing more is
 * read from the connection as HTTP (RFC 9112 §9.3, §9.6). Otherwise a proxy could send the next client's request behind
 * the incomplete body, and the gateway would take it for the rest of that body.
 */
export function announceEarlyResponses(server: FastifyInstance): void {
  server.addHook('onSend', ({ raw }, reply, payload, done) => {
    // The form's parser must not get the rest: nothing reads it there.
    if (!raw.readableEnded) raw.unpipe()
    announceIfEarly(reply, () => done(null, payload))
  })
}

/** The same for a response that hooks do not see. Calls `send` when the response may be sent. */
export function announceIfEarly(reply: FastifyReply, send: () => void): void {
  const { raw } = reply.request
  // The rest of the body may be in the packet that the parser is working on.
  if (raw.complete) finish()
  else setImmediate(finish)

  function finish(): void {
    if (!raw.complete) stopParsing(raw.socket)
    if (!raw.complete || isLastOnConnection(raw)) reply.header('connection', 'close')
    send()
  }
}
