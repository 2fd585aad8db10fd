import type { FastifyReply, FastifyRequest, onRequestAsyncHookHandler } from 'fastify'
import { type Authenticate, usesBearer } from '../auth/authenticate.ts'
import type { Principal, Scope } from '../auth/credentials.ts'
import { GatewayError } from '../errors.ts'
import { valuesOf } from './connections.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Who calls; there on every route guarded by `requireScope`. */
    principal?: Principal
  }
}

/** Gives the `onRequest` hook of a route that needs the scope. */
export type RequireScope = (scope: Scope) => onRequestAsyncHookHandler

/**
 * Makes `requireScope`. It runs before the body is read, sets `request.principal`, and answers a refusal by
 * a GatewayError together with the WWW-Authenticate header of RFC 6750 §3.
 */
export function createScopeGuard(authenticate: Authenticate): RequireScope {
  return (scope) => async (request, reply) => {
    const authorization = authorizationOf(request)
    const principal = await authenticate(authorization).catch((error: unknown) => {
      throw addChallenge(reply, authorization, error)
    })
    if (!principal.scopes.has(scope)) {
      challenge(reply, { error: 'insufficient_scope', scope })
      throw new GatewayError(
        'insufficient-scope',
        `This call requires the scope ${scope}. Ask the operator for it.`,
      )
    }
    request.principal = principal
  }
}

/** Node keeps the first of several Authorization headers; joined, they are malformed and thus refused. */
function authorizationOf({ raw }: FastifyRequest): string | undefined {
  const values = valuesOf(raw, 'authorization')
  return values.length > 0 ? values.join(', ') : undefined
}

/** RFC 6750 §3.1: a request without any bearer token is told no error code. */
function addChallenge(reply: FastifyReply, authorization: string | undefined, error: unknown): unknown {
  if (!(error instanceof GatewayError) || error.code !== 'unauthorized') return error
  challenge(
    reply,
    usesBearer(authorization) ? { error: 'invalid_token', error_description: error.message } : {},
  )
  return error
}

function challenge(reply: FastifyReply, parameters: Record<string, string>): void {
  const list = Object.entries({ realm: 'video-gateway', ...parameters }).map(
    ([name, value]) => `${name}="${value}"`,
  )
  reply.header('www-authenticate', `Bearer ${list.join(', ')}`)
}
