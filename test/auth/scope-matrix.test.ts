import { generateKeyPairSync } from 'node:crypto'
import t from 'tap'
import { createTokenIssuer } from '../../src/auth/access-tokens.ts'
import { allScopes, hashSecret, type Scope } from '../../src/auth/credentials.ts'
import { type Json, startGateway } from '../support/gateway.ts'

/** The only ones without a lock. Whoever adds one here has thought about it. */
const open = [
  'POST /oauth2/token',
  'GET /.well-known/oauth-authorization-server',
  'GET /.well-known/jwks.json',
  'GET /health/live',
  'GET /health/ready',
  'GET /metrics',
  // Signed by the platform.
  'POST /v1/platforms/:name/webhook',
]
/** Outside the document: pages for people. */
const pages = /^\/(docs(\/.*)?|openapi\.json|problems\/:code|\*)?$/

interface Operation {
  name: string
  method: string
  path: string
  scopes: Scope[]
}

/** Every subset, the empty one too: each bit of a number stands for a scope. */
const combinations = Array.from({ length: 2 ** allScopes.length }, (_, bits) =>
  allScopes.filter((_scope, index) => bits & (1 << index)),
)

const issuerUrl = 'https://gateway.example'
const signingKey = JSON.stringify(
  generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' }),
)
const keyOf = (scopes: Scope[]) => `key-${scopes.join('+').replaceAll(':', '-')}`

t.test('every operation requires its scope, in every combination', async (t) => {
  const API_KEYS = combinations
    .filter((scopes) => scopes.length > 0)
    .map((scopes, index) => `k${index}:${hashSecret(keyOf(scopes)).toString('hex')}:${scopes.join('+')}`)
    .join(',')
  const gateway = await startGateway(t, {
    env: { API_KEYS, PUBLIC_URL: issuerUrl, OAUTH_SIGNING_KEY: signingKey },
  })
  const issuer = await createTokenIssuer({ issuerUrl: () => issuerUrl, signingKey })
  const { body: document } = await gateway.call('GET', '/openapi.json', { headers: { authorization: '' } })
  const operations = operationsOf(document)
  const guarded = operations.filter(({ scopes }) => scopes.length > 0)

  t.strictSame(
    operations
      .filter(({ scopes }) => scopes.length === 0)
      .map(({ name }) => name)
      .sort(),
    [...open].sort(),
    'all others are guarded',
  )
  t.ok(guarded.every(({ path }) => path.startsWith('/v1/')))
  const documented = new Set(operations.map(({ name }) => name))
  for (const { method, path } of routesOf(gateway.app.server.printRoutes({ commonPrefix: false }))) {
    if (pages.test(path) || method === 'HEAD' || method === 'OPTIONS') continue
    t.ok(documented.has(`${method} ${path}`), `${method} ${path} is in the document`)
  }

  const call = async ({ method, path }: Operation, authorization: string) => {
    // An id that is not there, and no body: what gets through does nothing.
    const { status, body, headers } = await gateway.call(method, path.replace(':id', 'nobody'), {
      headers: { authorization },
    })
    return { status, code: body.code, challenge: headers.get('www-authenticate') }
  }
  for (const operation of guarded) {
    const without = await call(operation, '')
    t.match(
      without,
      { status: 401, code: 'unauthorized', challenge: 'Bearer realm="video-gateway"' },
      operation.name,
    )
    for (const scopes of combinations) {
      const { token } = await issuer.sign({ client: 'cms', scopes })
      const held = scopes.length > 0 ? [token, keyOf(scopes)] : [token]
      for (const credential of held) {
        const { status, code, challenge } = await call(operation, `Bearer ${credential}`)
        const name = `${operation.name} with ${scopes.join(' ') || 'no scope'}, ${credential === token ? 'token' : 'key'}`
        if (operation.scopes.every((scope) => scopes.includes(scope))) {
          t.ok(status !== 401 && status !== 403 && status < 500, `${name}: let in (${status})`)
        } else {
          t.strictSame([status, code], [403, 'insufficient-scope'], `${name}: kept out`)
          t.match(challenge, `scope="${operation.scopes.join(' ')}"`, name)
        }
      }
    }
  }
  t.equal(gateway.sandbox.stats().calls.create ?? 0, 0, 'the platform heard of none of it')
})

t.test('HEAD requires the same scope as GET', async (t) => {
  const gateway = await startGateway(t)
  for (const path of ['/v1/videos', '/v1/videos/nobody', '/v1/videos/nobody/status'])
    t.equal((await fetch(gateway.url + path, { method: 'HEAD' })).status, 401, path)
})

function operationsOf(document: Json): Operation[] {
  return Object.entries<Json>(document.paths).flatMap(([template, item]) =>
    Object.entries<Json>(item).map(([verb, { security = document.security ?? [] }]) => {
      const method = verb.toUpperCase()
      const path = template.replaceAll(/\{(\w+)\}/g, ':$1')
      const scopes = security.flatMap((requirement: Json) => requirement.oauth2 ?? [])
      return { name: `${method} ${path}`, method, path, scopes }
    }),
  )
}

/** Reads Fastify's tree: four characters a level, then a piece of the path and its methods. */
function routesOf(tree: string): { method: string; path: string }[] {
  const pieces: string[] = []
  return tree.split('\n').flatMap((line) => {
    const [, indent = '', piece = '', methods] = /^([│├└─\s]*)(\S+)(?: \(([A-Z, ]+)\))?$/.exec(line) ?? []
    if (piece === '') return []
    pieces.splice(indent.length / 4 - 1)
    pieces.push(piece)
    const path = pieces.join('')
    return (methods?.split(', ') ?? []).map((method) => ({ method, path }))
  })
}
