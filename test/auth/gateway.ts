import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { createTokenIssuer, type TokenIssuerOptions } from '../../src/auth/access-tokens.ts'
import { createAuthenticator } from '../../src/auth/authenticate.ts'
import { type Credential, hashSecret, type Scope } from '../../src/auth/credentials.ts'
import type { ExternalIssuer } from '../../src/auth/external-issuer.ts'
import { GatewayError, problems } from '../../src/errors.ts'
import { createScopeGuard } from '../../src/http/guard.ts'
import { oauthRoutes } from '../../src/routes/oauth.ts'

export interface GatewayOptions extends Partial<TokenIssuerOptions> {
  apiKeys?: Credential[]
  clients?: Credential[]
  external?: ExternalIssuer
}

/** Small gateway on a port of its own: one guarded route a scope, and the OAuth routes. */
export async function startGateway(t: Test, options: GatewayOptions = {}) {
  const { apiKeys = [], clients = [], external, ...issuerOptions } = options
  const app: FastifyInstance = Fastify()
  t.teardown(() => app.close())
  const publicUrl = () => app.listeningOrigin
  const issuer = await createTokenIssuer({ issuerUrl: publicUrl, ...issuerOptions })
  const requireScope = createScopeGuard(createAuthenticator({ apiKeys, issuer, external }))

  app.setErrorHandler((error: Error, _request, reply) => {
    if (!(error instanceof GatewayError))
      return reply.code(500).send({ code: 'internal-error', detail: `${error}` })
    return reply.code(problems[error.code].status).send({ code: error.code, detail: error.message })
  })
  for (const verb of ['read', 'write', 'delete'] as const) {
    app.get(`/${verb}`, { onRequest: requireScope(`videos:${verb}`) }, ({ principal }) => ({
      name: principal?.name,
      scopes: [...(principal?.scopes ?? [])],
    }))
  }
  await app.register(oauthRoutes, { issuer, clients, publicUrl })
  await app.listen({ host: '127.0.0.1', port: 0 })

  return {
    url: publicUrl(),
    issuer,
    /** GET of a guarded route; a token becomes `Authorization: Bearer`. */
    async call(path: string, token?: string) {
      return get(`${publicUrl()}${path}`, token === undefined ? {} : { authorization: `Bearer ${token}` })
    },
    async callWith(path: string, headers: Record<string, string>) {
      return get(`${publicUrl()}${path}`, headers)
    },
    async token(form: Record<string, string> | string, headers: Record<string, string> = {}) {
      const response = await fetch(`${publicUrl()}/oauth2/token`, {
        method: 'POST',
        body: new URLSearchParams(form),
        headers,
      })
      return { status: response.status, headers: response.headers, body: (await response.json()) as Body }
    },
  }
}

/** Whatever member of an answer a test asks for. */
export type Body = Record<string, string>

export function credential(name: string, secret: string, ...scopes: Scope[]): Credential {
  return { name, secretHash: hashSecret(secret), scopes }
}

async function get(url: string, headers: Record<string, string>) {
  const response = await fetch(url, { headers })
  return {
    status: response.status,
    challenge: response.headers.get('www-authenticate'),
    body: (await response.json()) as Body,
  }
}
