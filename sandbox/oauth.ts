import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { Fault } from './fault.ts'
import type { Platform } from './platform.ts'

/** The token endpoint (RFC 6749, 4.4) and its metadata (RFC 8414). */
export function oauthRoutes(app: FastifyInstance, platform: Platform): void {
  app.addContentTypeParser(
    'application/x-www-form-urlencoded',
    { parseAs: 'string' },
    (_request, body, done) => done(null, Object.fromEntries(new URLSearchParams(body as string))),
  )

  app.get('/.well-known/oauth-authorization-server', () => ({
    issuer: platform.url,
    token_endpoint: `${platform.url}/oauth/token`,
    response_types_supported: [],
    grant_types_supported: ['client_credentials'],
    token_endpoint_auth_methods_supported: ['client_secret_basic', 'client_secret_post'],
  }))

  app.post('/oauth/token', { config: { operation: 'token' } }, async (request, reply) => {
    const form = (request.body ?? {}) as Record<string, string>
    const { id, secret } = basic(request) ?? { id: form.client_id, secret: form.client_secret }
    await delay(platform.knobs.token_delay_ms)
    reply.header('cache-control', 'no-store')
    if (id !== platform.client.id || secret !== platform.client.secret) return invalidClient(reply)
    if (!form.grant_type) return reply.code(400).send({ error: 'invalid_request' })
    if (form.grant_type !== 'client_credentials') {
      return reply.code(400).send({ error: 'unsupported_grant_type' })
    }
    const token = randomBytes(24).toString('base64url')
    const lifetime = platform.knobs.token_lifetime_s
    platform.tokens.set(token, Date.now() + lifetime * 1000)
    return { access_token: token, token_type: 'bearer', expires_in: lifetime }
  })
}

/** Accepts a request with a valid token; throws the Fault `unauthenticated` (401) otherwise. */
export function requireToken(platform: Platform) {
  return async (request: FastifyRequest): Promise<void> => {
    const [, token] = /^bearer +(\S+)$/i.exec(request.headers.authorization ?? '') ?? []
    if (!token) throw unauthenticated('a bearer token is required', 'Bearer realm="sandbox"')
    const expires = platform.tokens.get(token)
    if (expires === undefined || expires <= Date.now()) {
      platform.tokens.delete(token)
      throw unauthenticated(
        'the token is unknown or has expired',
        'Bearer realm="sandbox", error="invalid_token"',
      )
    }
  }
}

function unauthenticated(text: string, challenge: string): Fault {
  return new Fault(401, 'unauthenticated', text, { 'www-authenticate': challenge })
}

function invalidClient(reply: FastifyReply) {
  return reply.code(401).header('www-authenticate', 'Basic realm="sandbox"').send({ error: 'invalid_client' })
}

/** Both halves are form-encoded before they are joined (RFC 6749, 2.3.1). */
function basic(request: FastifyRequest): { id: string; secret: string } | null {
  const [, encoded] = /^basic +(\S+)$/i.exec(request.headers.authorization ?? '') ?? []
  if (!encoded) return null
  const [id = '', ...secret] = Buffer.from(encoded, 'base64').toString().split(':')
  try {
    return { id: formDecode(id), secret: formDecode(secret.join(':')) }
  } catch {
    return { id: '', secret: '' }
  }
}

const formDecode = (value: string) => decodeURIComponent(value.replaceAll('+', ' '))
