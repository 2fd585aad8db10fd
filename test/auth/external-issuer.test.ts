import * as jose from 'jose'
import t, { type Test } from 'tap'
import { createExternalIssuer } from '../../src/auth/external-issuer.ts'
import { startGateway } from './gateway.ts'
import { audience, claims, startIssuer } from './issuer-double.ts'

function setUp(issuerUrl: string) {
  const warnings: string[] = []
  const log = { info() {}, warn: (_details: object, message: string) => warnings.push(message) }
  return { warnings, external: createExternalIssuer({ issuerUrl, claims, log }) }
}

async function start(t: Test, issuerUrl: string) {
  const { warnings, external } = setUp(issuerUrl)
  return { warnings, ...(await startGateway(t, { external })) }
}

t.test('discovers the keys once, at the first token, and accepts tokens of the issuer', async (t) => {
  const issuer = await startIssuer(t)
  const gateway = await start(t, issuer.url)
  t.strictSame(issuer.requests, [], 'lazily')

  const tokens = await Promise.all([issuer.sign({ client_id: 'back-office' }), issuer.sign(), issuer.sign()])
  const answers = await Promise.all(tokens.map((token) => gateway.call('/read', token)))
  t.strictSame(
    answers.map(({ status, body }) => [status, body.name]),
    [
      [200, 'back-office'],
      [200, 'cms'],
      [200, 'cms'],
    ],
  )
  t.strictSame(issuer.requests, ['/.well-known/openid-configuration', '/keys'])
})

t.test('finds an issuer that has RFC 8414 metadata only', async (t) => {
  const issuer = await startIssuer(t, 'oauth-authorization-server')
  const gateway = await start(t, issuer.url)
  t.match(await gateway.call('/read', await issuer.sign()), { status: 200 })
})

t.test('reads scopes and client name from the claims that issuers use', async (t) => {
  const issuer = await startIssuer(t)
  const gateway = await start(t, issuer.url)
  const read = ['videos:read']
  const cases: [jose.JWTPayload, string, string[]][] = [
    [{ scope: 'openid videos:read videos:root' }, 'cms', read],
    [{ scope: undefined, scp: ['videos:write', 'videos:read'] }, 'cms', ['videos:read', 'videos:write']],
    [{ scope: undefined, scp: 'videos:read' }, 'cms', read],
    [{ azp: 'party', sub: 'user' }, 'party', read],
    [{ client_id: 'client', azp: 'party' }, 'client', read],
  ]
  for (const [claims, name, scopes] of cases) {
    t.strictSame((await gateway.call('/read', await issuer.sign(claims))).body, { name, scopes })
  }
  for (const scope of [undefined, '', 'videos:READ', 'videos:read,videos:write']) {
    t.equal((await gateway.call('/read', await issuer.sign({ scope }))).status, 403, String(scope))
  }
  t.equal(
    (await gateway.call('/read', await issuer.sign({ sub: undefined as never }))).status,
    401,
    'no name',
  )
  for (const typ of ['JWT', 'application/at+jwt', undefined]) {
    t.equal(
      (await gateway.call('/read', await issuer.sign({}, { typ: typ as string }))).status,
      200,
      `typ ${typ}`,
    )
  }
})

t.test('rejects forged, stale and foreign tokens', async (t) => {
  const issuer = await startIssuer(t)
  const gateway = await start(t, issuer.url)
  const now = Math.floor(Date.now() / 1000)
  const stranger = await startIssuer(t)
  const payload = { iss: issuer.url, aud: audience, sub: 'cms', scope: 'videos:read', exp: now + 60 }
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const hs256 = (secret: string) =>
    new jose.SignJWT(payload)
      .setProtectedHeader({ alg: 'HS256', kid: 'one', typ: 'at+jwt' })
      .sign(new TextEncoder().encode(secret))
  const pem = await jose.exportSPKI((await jose.importJWK(issuer.publicJwk)) as jose.CryptoKey)
  const bad: Record<string, string> = {
    'not yet valid': await issuer.sign({ nbf: now + 60 }),
    'other audience': await issuer.sign({ aud: 'https://elsewhere.example' }),
    'no audience': await issuer.sign({ aud: undefined as never }),
    'no expiry': await issuer.sign({ exp: undefined as never }),
    'no key of this id': await issuer.sign({}, { kid: 'two' }),
    'typ of another kind of token': await issuer.sign({}, { typ: 'logout+jwt' }),
    'key of another issuer': await stranger.sign({ iss: issuer.url }),
    'another issuer altogether': await stranger.sign(),
    'iss with a slash that the issuer does not use': await issuer.sign({ iss: `${issuer.url}/` }),
    'HS256 by the public key in PEM': await hs256(pem),
    'HS256 by the public JWK': await hs256(JSON.stringify(issuer.publicJwk)),
    'alg none': `${encode({ alg: 'none' })}.${encode(payload)}.x`,
  }
  for (const [flaw, token] of Object.entries(bad)) {
    const { status, body } = await gateway.call('/read', token)
    t.strictSame([status, body.detail], [401, 'The access token is not valid. Request a new one.'], flaw)
  }
  const expired = await gateway.call('/read', await issuer.sign({ exp: now - 60 }))
  t.strictSame(
    [expired.status, expired.body.detail],
    [401, 'The access token has expired. Request a new one.'],
  )
  t.strictSame(gateway.warnings, [], 'bad tokens are no fault of the issuer')
})

t.test(
  'a token of the issuer is not accepted as one of the gateway, nor with the gateway’s key',
  async (t) => {
    const issuer = await startIssuer(t)
    const gateway = await start(t, issuer.url)
    t.equal(
      (await gateway.call('/read', await issuer.sign({ iss: gateway.url, aud: gateway.url }))).status,
      401,
    )
    const { token } = await gateway.issuer.sign({ client: 'cms', scopes: ['videos:read'] })
    t.equal((await gateway.call('/read', token)).status, 200, 'our own tokens still pass')
  },
)

t.test('http is for loopback addresses only', async (t) => {
  for (const url of [
    'http://issuer.example',
    'http://127.0.0.1.example',
    'http://10.0.0.1',
    'ftp://localhost',
  ]) {
    t.throws(() => setUp(url), /OAUTH_ISSUER: expected an https URL/, url)
  }
  for (const url of [
    'https://issuer.example/realm',
    'http://localhost:8080',
    'http://127.0.0.1',
    'http://[::1]:80',
  ]) {
    t.doesNotThrow(() => setUp(url), url)
  }
})
