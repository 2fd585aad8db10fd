import * as jose from 'jose'
import t from 'tap'
import { allScopes } from '../../src/auth/credentials.ts'
import { credential, startGateway } from './gateway.ts'

const grant_type = 'client_credentials'
const odd = 's:e%c+r&e=t /"~'
const clients = [
  credential('cms', 'secret', ...allScopes),
  credential('viewer', 'other secret', 'videos:read', 'videos:write'),
  credential('odd+name%', odd, 'videos:read'),
]
const basic = (id: string, secret: string) => ({ authorization: `Basic ${btoa(`${id}:${secret}`)}` })

t.test('a client’s token allows what its scopes allow', async (t) => {
  const gateway = await startGateway(t, { clients })
  const { status, headers, body } = await gateway.token({ grant_type }, basic('viewer', 'other+secret'))
  t.equal(status, 200)
  t.match(headers.get('content-type'), /^application\/json/)
  t.equal(headers.get('cache-control'), 'no-store')
  t.strictSame(Object.keys(body).sort(), ['access_token', 'expires_in', 'scope', 'token_type'])
  t.match(body, { token_type: 'Bearer', expires_in: 900, scope: 'videos:read videos:write' })
  t.match(await gateway.call('/write', body.access_token), { status: 200, body: { name: 'viewer' } })
  t.equal((await gateway.call('/delete', body.access_token)).status, 403)
})

t.test('a client may authenticate in the form, and request fewer scopes', async (t) => {
  const gateway = await startGateway(t, { clients, lifetimeSeconds: 60 })
  const form = { grant_type, client_id: 'cms', client_secret: 'secret' }
  t.match((await gateway.token(form)).body, { scope: allScopes.join(' '), expires_in: 60 })
  t.match(
    (await gateway.token({ ...form, scope: '' })).body,
    { scope: allScopes.join(' ') },
    'empty is omitted',
  )
  t.match((await gateway.token({ ...form, extra: 'ignored' })).status, 200)

  const { body } = await gateway.token({ ...form, scope: 'videos:delete  videos:read videos:read' })
  t.equal(body.scope, 'videos:read videos:delete')
  t.equal((await gateway.call('/write', body.access_token)).status, 403)
})

t.test('Basic credentials are form-urlencoded', async (t) => {
  const gateway = await startGateway(t, { clients })
  const encode = (text: string) => new URLSearchParams({ x: text }).toString().slice(2)
  t.equal((await gateway.token({ grant_type }, basic(encode('odd+name%'), encode(odd)))).status, 200)
  t.equal((await gateway.token({ grant_type, client_id: 'odd+name%', client_secret: odd })).status, 200)
  t.equal((await gateway.token({ grant_type }, basic('odd+name%', odd))).status, 401, 'not encoded')
})

t.test('failed client authentication is always the same error', async (t) => {
  const gateway = await startGateway(t, { clients })
  const attempts: [Record<string, string>, Record<string, string>?][] = [
    [{ grant_type }],
    [{ grant_type, client_id: 'cms' }],
    [{ grant_type, client_id: 'cms', client_secret: '' }],
    [{ grant_type, client_id: 'cms', client_secret: 'wrong' }],
    [{ grant_type, client_id: 'viewer', client_secret: 'secret' }],
    [{ grant_type, client_id: 'nobody', client_secret: 'secret' }],
    [{ grant_type, client_id: 'cms', client_secret: 'wrong', scope: 'nonsense' }],
    [{ grant_type, client_id: 'cms', code_verifier: 'a'.repeat(43) }],
    [{ grant_type }, basic('cms', 'wrong')],
    [{ grant_type }, basic('nobody', 'secret')],
    [{ grant_type }, basic('', '')],
    [{ grant_type }, basic('cms', '%zz')],
    [{ grant_type }, { authorization: 'Basic' }],
    [{ grant_type }, { authorization: `Basic ${btoa('no colon')}` }],
    [{ grant_type }, { authorization: 'Basic ~~~~' }],
    [{ grant_type }, { authorization: 'Bearer secret' }],
  ]
  for (const [form, headers] of attempts) {
    const answer = await gateway.token(form, headers)
    t.equal(answer.status, 401, JSON.stringify([form, headers]))
    t.match(answer.headers.get('www-authenticate'), /^Basic realm="video-gateway"/)
    t.equal(answer.headers.get('cache-control'), 'no-store')
    t.strictSame(answer.body, { error: 'invalid_client', error_description: 'Client authentication failed' })
  }
})

t.test('every other error has the format of RFC 6749 §5.2 as well', async (t) => {
  const gateway = await startGateway(t, { clients })
  const client = { client_id: 'viewer', client_secret: 'other secret' }
  const header = basic('viewer', 'other+secret')
  const cases: [string, Record<string, string> | string, Record<string, string>?][] = [
    ['invalid_scope', { grant_type, ...client, scope: 'videos:delete' }],
    ['invalid_scope', { grant_type, ...client, scope: 'videos:read videos:delete' }],
    ['invalid_scope', { grant_type, ...client, scope: 'videos:read nonsense' }],
    ['invalid_scope', { grant_type, ...client, scope: 'a"b' }],
    ['unsupported_grant_type', { ...client, grant_type: 'password', username: 'a', password: 'b' }],
    [
      'unsupported_grant_type',
      { ...client, grant_type: 'authorization_code', code_verifier: 'a'.repeat(43) },
    ],
    ['unsupported_grant_type', { ...client, grant_type: 'toString' }],
    ['invalid_request', { ...client }],
    ['invalid_request', { ...client, grant_type: '' }],
    ['invalid_request', `grant_type=${grant_type}&grant_type=${grant_type}`, header],
    ['invalid_request', `grant_type=${grant_type}&scope=videos:read&scope=videos:write`, header],
    ['invalid_request', { grant_type, ...client }, header],
    ['invalid_request', { grant_type, client_id: 'cms' }, header],
    ['invalid_request', { grant_type, ...client, scope: 'x'.repeat(9000) }],
    ['invalid_request', { grant_type, ...client }, { 'content-type': 'application/json' }],
    ['invalid_request', { grant_type, ...client }, { 'content-type': 'text/plain' }],
    ['invalid_request', { grant_type, ...client }, { 'content-type': 'multipart/form-data; boundary=x' }],
  ]
  for (const [error, form, headers] of cases) {
    const answer = await gateway.token(form, headers)
    t.strictSame([answer.status, answer.body.error], [400, error], JSON.stringify(form).slice(0, 100))
    t.strictSame(Object.keys(answer.body), ['error', 'error_description'])
    t.match(answer.body.error_description, /^[ !#-[\]-~]+$/)
    t.equal(answer.headers.get('cache-control'), 'no-store')
  }
  t.equal(
    (await gateway.token({ grant_type, client_id: 'viewer' }, header)).status,
    200,
    'client_id repeated',
  )

  const empty = await fetch(`${gateway.url}/oauth2/token`, { method: 'POST' })
  t.strictSame([empty.status, ((await empty.json()) as { error: string }).error], [400, 'invalid_request'])
  t.equal((await fetch(`${gateway.url}/oauth2/token`)).status, 404, 'GET is left to the app')
})

t.test('a failure to sign a token is a server_error without details', async (t) => {
  let listening = false
  const issuerUrl = () => {
    if (listening) throw new Error('an inner detail')
    return 'https://gateway.example'
  }
  const gateway = await startGateway(t, { clients, issuerUrl })
  listening = true
  const { status, body } = await gateway.token({ grant_type }, basic('cms', 'secret'))
  t.strictSame([status, body.error], [500, 'server_error'])
  t.notMatch(JSON.stringify(body), /inner detail/)
})

t.test('client libraries discover endpoint and keys from the metadata', async (t) => {
  const gateway = await startGateway(t, { clients })
  const get = async (path: string) => (await fetch(`${gateway.url}${path}`)).json()
  t.strictSame(await get('/.well-known/oauth-authorization-server'), {
    issuer: gateway.url,
    token_endpoint: `${gateway.url}/oauth2/token`,
    jwks_uri: `${gateway.url}/.well-known/jwks.json`,
    scopes_supported: allScopes,
    response_types_supported: [],
    grant_types_supported: ['client_credentials'],
    token_endpoint_auth_methods_supported: ['client_secret_basic', 'client_secret_post'],
    service_documentation: `${gateway.url}/docs`,
  })
  t.strictSame(await get('/.well-known/jwks.json'), gateway.issuer.jwks())

  const openid = await import('openid-client')
  const configuration = await openid.discovery(new URL(gateway.url), 'cms', 'secret', undefined, {
    algorithm: 'oauth2',
    execute: [openid.allowInsecureRequests],
  })
  const { access_token } = await openid.clientCredentialsGrant(configuration, { scope: 'videos:read' })
  const keys = jose.createRemoteJWKSet(new URL(configuration.serverMetadata().jwks_uri as string))
  const { payload } = await jose.jwtVerify(access_token, keys, { issuer: gateway.url, audience: gateway.url })
  t.match(payload, { client_id: 'cms', scope: 'videos:read' })
})
