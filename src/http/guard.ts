import type { FastifyReply, FastifyRequest, onRequestAsyncHookHandler } from 'fastify'
import { type Authenticate, usesBearer } from '../auth/authenticate.ts'
import type { Principal, Scope } from '../auth/credentials.ts'
import { GatewayError } from '../errors.ts'
import { valuesOf } from './connections.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** The authenticated client; set on every route guarded by `requireScope`. */
    principal?: Principal
  }
}

/** Returns the `onRequest` hook of a route that requires the scope. */
export type RequireScope = (scope: Scope) => onRequestAsyncHookHandler

/**
 * Creates `requireScope`. Its hook runs before the body is read, sets `request.principal`, and rejects with a
 * GatewayError and the WWW-Authenticate header of RFC 6750 §3.
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

/** Joins several Authorization headers, of which Node keeps only the first: joined, they are malformed and rejected. */
function authorizationOf({ raw }: FastifyRequest): string | undefined {
  const values = valuesOf(raw, 'authorization')
  return values.length > 0 ? values.join(', ') : undefined
}

/** Adds the challenge: without an error code for a request without a bearer token (RFC 6750 §3.1). */
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
