import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import * as jose from 'jose'
import type { Test } from 'tap'
import type { ClaimRules } from '../../src/auth/token-claims.ts'

export interface IssuerDouble {
  url: string
  /** Paths asked for, in order. */
  requests: string[]
  privateKey: jose.CryptoKey
  publicJwk: jose.JWK
  /** Answers changed by a test: path to body, or to what answers in its place. */
  answers: Record<string, unknown>
  sign(claims?: jose.JWTPayload, header?: Partial<jose.JWTHeaderParameters>): Promise<string>
  stop(): Promise<void>
  start(): Promise<void>
}

export const audience = 'https://gateway.example'

/** As without any variable about claims. */
export const claims: ClaimRules = {
  audiences: [audience],
  audienceClaim: 'aud',
  scopeClaims: ['scope', 'scp'],
  scopeMap: new Map(),
}

/** Authorization server of its own on a real port, that can go down and come back. */
export async function startIssuer(
  t: Test,
  discovery: 'openid-configuration' | 'oauth-authorization-server' = 'openid-configuration',
): Promise<IssuerDouble> {
  const { privateKey, publicKey } = await jose.generateKeyPair('RS256')
  const publicJwk = { ...(await jose.exportJWK(publicKey)), kid: 'one', alg: 'RS256', use: 'sig' }
  const requests: string[] = []
  const answers: Record<string, unknown> = {}
  let server: Server | undefined
  let port = 0

  const start = async () => {
    server = createServer((request, response) => {
      requests.push(request.url ?? '')
      const answer = answers[request.url ?? '']
      if (typeof answer === 'function') return (answer as RequestListener)(request, response)
      response
        .writeHead(answer ? 200 : 404, { 'content-type': 'application/json' })
        .end(JSON.stringify(answer ?? {}))
    })
    const { promise, resolve } = Promise.withResolvers<void>()
    server.listen(port, '127.0.0.1', resolve)
    await promise
    port = (server.address() as AddressInfo).port
  }
  const stop = async () => {
    server?.closeAllConnections()
    await server?.[Symbol.asyncDispose]().catch(() => {})
  }

  await start()
  t.teardown(stop)
  const url = `http://127.0.0.1:${port}`
  answers[`/.well-known/${discovery}`] = { issuer: url, jwks_uri: `${url}/keys` }
  answers['/keys'] = { keys: [publicJwk] }

  return {
    url,
    requests,
    privateKey,
    publicJwk,
    answers,
    stop,
    start,
    sign: (claims = {}, header = {}) => {
      const now = Math.floor(Date.now() / 1000)
      const all = {
        iss: url,
        aud: audience,
        sub: 'cms',
        scope: 'videos:read',
        iat: now,
        exp: now + 60,
        ...claims,
      }
      return new jose.SignJWT(all)
        .setProtectedHeader({ alg: 'RS256', typ: 'at+jwt', kid: 'one', ...header })
        .sign(privateKey)
    },
  }
}
