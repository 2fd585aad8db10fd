import type { FastifyReply, FastifyRequest, onRequestAsyncHookHandler } from 'fastify'
import * as jose from 'jose'
import { GatewayError } from '../errors.ts'
import { valuesOf } from '../http/connections.ts'
import { type TokenIssuer, tokenRefused } from './access-tokens.ts'
import { type Credential, findBySecret, type Principal, type Scope } from './credentials.ts'
import type { ExternalIssuer } from './external-issuer.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Who calls; there on every route guarded by `requireScope`. */
    principal?: Principal
  }
}

export interface AuthenticatorOptions {
  apiKeys: Credential[]
  issuer: TokenIssuer
  external?: ExternalIssuer | undefined
}

/** Takes the value of the Authorization header; throws GatewayError `unauthorized`. */
export type Authenticate = (authorization: string | undefined) => Promise<Principal>

/** Gives the `onRequest` hook of a route that needs the scope. */
export type RequireScope = (scope: Scope) => onRequestAsyncHookHandler

/** Accepts an API key, an access token of the gateway, or one of the external issuer. */
export function createAuthenticator({ apiKeys, issuer, external }: AuthenticatorOptions): Authenticate {
  return async (authorization) => {
    const token = bearerToken(authorization)
    return token.split('.').length === 3 ? byAccessToken(token) : byApiKey(token)
  }

  async function byAccessToken(token: string): Promise<Principal> {
    return external?.issues(unverifiedIssuer(token)) ? external.verify(token) : issuer.verify(token)
  }

  function byApiKey(key: string): Principal {
    const credential = findBySecret(apiKeys, key)
    if (!credential) throw new GatewayError('unauthorized', 'The API key is not valid')
    return { kind: 'api-key', name: credential.name, scopes: new Set(credential.scopes) }
  }
}

/**
 * Makes `requireScope`. It runs before the body is read, sets `request.principal`, and answers a refusal by
 * a GatewayError together with the WWW-Authenticate header of RFC 6750 §3.
 */
export function createScopeGuard(authenticate: Authenticate): RequireScope {
  return (scope) => async (request, reply) => {
    const authorization = authorizationOf(request)
    const principal = await authenticate(authorization).catch((error: unknown) => {
      throw challenged(reply, authorization, error)
    })
    if (!principal.scopes.has(scope)) {
      challenge(reply, { error: 'insufficient_scope', scope })
      throw new GatewayError('insufficient-scope', `This call needs the scope ${scope}`)
    }
    request.principal = principal
  }
}

/** RFC 6750 §2.1. The header is the only way in: tokens in the query or the body end up in logs. */
function bearerToken(authorization: string | undefined): string {
  if (!usesBearer(authorization)) throw new GatewayError('unauthorized')
  const token = /^bearer +([\w\-.~+/]+=*)$/i.exec(authorization)?.[1]
  if (!token) throw new GatewayError('unauthorized', 'The Authorization header is malformed')
  return token
}

function usesBearer(authorization: string | undefined): authorization is string {
  return /^bearer(?: |$)/i.test(authorization ?? '')
}

/** Only says who is to verify the token; the verifier then compares `iss` itself. */
function unverifiedIssuer(token: string): string {
  try {
    return String(jose.decodeJwt(token).iss)
  } catch (error) {
    throw tokenRefused(error)
  }
}

/** Node keeps the first of several Authorization headers; joined, they are malformed and thus refused. */
function authorizationOf({ raw }: FastifyRequest): string | undefined {
  const values = valuesOf(raw, 'authorization')
  return values.length > 0 ? values.join(', ') : undefined
}

/** RFC 6750 §3.1: a request without any bearer token is told no error code. */
function challenged(reply: FastifyReply, authorization: string | undefined, error: unknown): unknown {
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
