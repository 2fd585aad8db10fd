import type { IncomingMessage } from 'node:http'
import type { FastifyInstance } from 'fastify'
import { GatewayError } from '../errors.ts'
import { bodyErrorOf, failBody } from './parsing.ts'
import { streamedTypes } from './validation.ts'

/** Maximum time to receive the headers of a request, and a body that is not content. Milliseconds. */
export const requestDeadline = 8_000

/** Returns every value of a header field, of which Node shows only the first. @param name in lower case */
export function valuesOf({ rawHeaders }: IncomingMessage, name: string): string[] {
  const values: string[] = []
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const field = rawHeaders[index] as string
    if (field.length === name.length && field.toLowerCase() === name)
      values.push(rawHeaders[index + 1] as string)
  }
  return values
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The route reads bodies of every type as a whole, so the deadline applies to all of them. */
    readsWholeBody?: boolean
  }
}

/**
 * Enforces a deadline for a body that is read as a whole, such as JSON, even if its bytes keep arriving. Content has
 * its own limit, the idle timeout.
 */
export function enforceBodyDeadline(server: FastifyInstance): void {
  server.addHook('preParsing', ({ raw, headers, routeOptions }, reply, payload, done) => {
    // A body that was malformed before anything read it would never end.
    const error = bodyErrorOf(raw)
    if (error) return done(error)
    done(null, payload)
    if (headers['content-length'] === undefined && headers['transfer-encoding'] === undefined) return
    const type = headers['content-type']?.split(';', 1)[0]?.trim().toLowerCase() ?? ''
    if (streamedTypes.includes(type) && !routeOptions.config.readsWholeBody) return
    // The reader of the body responds with this error.
    const timer = setTimeout(() => failBody(raw, requestTimeout()), requestDeadline).unref()
    const stop = () => clearTimeout(timer)
    raw.once('end', stop).once('close', stop)
    // After the response, data of a rejected request is no longer a body.
    reply.raw.once('close', stop)
  })
}

export function requestTimeout(): GatewayError {
  return new GatewayError(
    'request-timeout',
    `The request was not complete after ${requestDeadline / 1000} s. Send it again.`,
  )
}
