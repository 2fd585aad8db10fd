import * as jose from 'jose'
import t from 'tap'
import { createTokenIssuer } from '../../src/auth/access-tokens.ts'
import { startGateway } from './gateway.ts'

const newKey = async (alg: string, options = {}) => {
  const { privateKey } = await jose.generateKeyPair(alg, { extractable: true, ...options })
  return jose.exportJWK(privateKey)
}
const issuerUrl = () => 'https://gateway.example'

t.test('signs the profile of RFC 9068 with either kind of key', async (t) => {
  for (const [alg, keyType] of [
    ['ES256', 'EC'],
    ['EdDSA', 'OKP'],
  ] as const) {
    const jwk = await newKey(alg)
    const issuer = await createTokenIssuer({
      issuerUrl,
      signingKey: JSON.stringify({ ...jwk, key_ops: ['sign'] }),
    })
    const { token, expiresIn } = await issuer.sign({ client: 'cms', scopes: ['videos:read', 'videos:write'] })
    t.equal(expiresIn, 900)

    const [key] = issuer.jwks().keys
    t.match(key, { kty: keyType, alg, use: 'sig', kid: await jose.calculateJwkThumbprint(jwk) })
    t.notOk(Object.hasOwn(key ?? {}, 'd'), 'the private part stays inside')

    const { payload, protectedHeader } = await jose.jwtVerify(token, jose.createLocalJWKSet(issuer.jwks()))
    t.strictSame(protectedHeader, { alg, typ: 'at+jwt', kid: key?.kid })
    t.match(payload, {
      iss: issuerUrl(),
      aud: issuerUrl(),
      sub: 'cms',
      client_id: 'cms',
      scope: 'videos:read videos:write',
      jti: /^[\w-]{36}$/,
    })
    t.equal((payload.exp ?? 0) - (payload.iat ?? 0), 900)

    const principal = await issuer.verify(token)
    t.strictSame(principal, {
      kind: 'oauth-client',
      name: 'cms',
      scopes: new Set(['videos:read', 'videos:write']),
      expiresAt: (payload.exp ?? 0) * 1000,
    })
  }
})

t.test('without a key it generates one; with a shared key replicas accept each other’s tokens', async (t) => {
  const [one, other] = [await createTokenIssuer({ issuerUrl }), await createTokenIssuer({ issuerUrl })]
  const { token } = await one.sign({ client: 'cms', scopes: [] })
  t.match(await one.verify(token), { name: 'cms' })
  await t.rejects(other.verify(token), { code: 'unauthorized' })

  const signingKey = JSON.stringify(await newKey('ES256'))
  const [a, b] = [
    await createTokenIssuer({ issuerUrl, signingKey }),
    await createTokenIssuer({ issuerUrl, signingKey }),
  ]
  t.match(await b.verify((await a.sign({ client: 'cms', scopes: [] })).token), { name: 'cms' })
})

t.test('rejects an unusable signing key, and never repeats it', async (t) => {
  const ec = await newKey('ES256')
  const { d: _, ...publicOnly } = ec
  const cases: [string, unknown][] = [
    ['must be a JWK in JSON', '-----BEGIN PRIVATE KEY-----'],
    ['must be a JWK for ES256', 'null'],
    ['must be a JWK for ES256', {}],
    ['must be a JWK for ES256', await newKey('ES384')],
    ['must be a JWK for ES256', await newKey('RS256')],
    ['must be a JWK for ES256', { kty: 'oct', k: 'c2VjcmV0' }],
    ['must be a private JWK', publicOnly],
    ['the alg of the signing key must be ES256', { ...ec, alg: 'ES512' }],
    ['not usable', { ...ec, d: (await newKey('ES256')).d }],
    ['not usable', { ...ec, x: 'AA' }],
    ['not usable', { ...(await newKey('EdDSA')), x: (await newKey('EdDSA')).x }],
  ]
  for (const [message, key] of cases) {
    const signingKey = typeof key === 'string' ? key : JSON.stringify(key)
    const error = await createTokenIssuer({ issuerUrl, signingKey }).then(
      () => undefined,
      (error: Error) => error,
    )
    t.ok(error?.message.includes(message), `${message}: ${error?.message}`)
    t.notOk(error?.message.includes(ec.d as string))
  }
})

t.test('over HTTP, every forged or stale token is rejected', async (t) => {
  const jwk = await newKey('ES256')
  const gateway = await startGateway(t, { signingKey: JSON.stringify(jwk) })
  const key = await jose.importJWK(jwk, 'ES256')
  const now = Math.floor(Date.now() / 1000)
  const claims = {
    iss: gateway.url,
    aud: gateway.url,
    sub: 'cms',
    client_id: 'cms',
    scope: 'videos:read unknown',
    iat: now,
    exp: now + 60,
    jti: 'x',
  }
  const sign = (changes: jose.JWTPayload = {}, header = {}, by: Parameters<jose.SignJWT['sign']>[0] = key) =>
    new jose.SignJWT({ ...claims, ...changes })
      .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', ...header })
      .sign(by)

  t.match(await gateway.call('/read', await sign()), {
    status: 200,
    body: { name: 'cms', scopes: ['videos:read'] },
  })
  t.match(
    await gateway.call('/read', await sign({ exp: now - 2 })),
    { status: 200 },
    'clocks may differ a little',
  )

  const expired = await gateway.call('/read', await sign({ exp: now - 60 }))
  t.match(expired, {
    status: 401,
    body: { code: 'unauthorized' },
    challenge:
      'Bearer realm="video-gateway", error="invalid_token", error_description="The access token has expired. Request a new one."',
  })

  const publicKeyPem = await jose.exportSPKI(
    (await jose.importJWK(publicPart(jwk), 'ES256')) as jose.CryptoKey,
  )
  const publicJwkText = JSON.stringify(gateway.issuer.jwks().keys[0])
  const good = await sign()
  const [header, payload, signature] = good.split('.') as [string, string, string]
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const hs256 = { alg: 'HS256' }
  const bad: Record<string, string> = {
    'not yet valid': await sign({ nbf: now + 60 }),
    'other issuer': await sign({ iss: 'https://elsewhere.example' }),
    'no issuer': await sign({ iss: undefined as never }),
    'other audience': await sign({ aud: 'https://elsewhere.example' }),
    'no audience': await sign({ aud: undefined as never }),
    'no expiry': await sign({ exp: undefined as never }),
    'no client': await sign({ client_id: undefined }),
    'typ of an ID token': await sign({}, { typ: 'JWT' }),
    'no typ': await sign({}, { typ: undefined }),
    'other key': await sign({}, {}, (await jose.generateKeyPair('ES256')).privateKey),
    'other key in the header': await sign(
      {},
      { jwk: publicPart(jwk) },
      (await jose.generateKeyPair('ES256')).privateKey,
    ),
    'other algorithm': await sign({}, { alg: 'EdDSA' }, (await jose.generateKeyPair('EdDSA')).privateKey),
    'HS256 by the public key in PEM': await sign({}, hs256, new TextEncoder().encode(publicKeyPem)),
    'HS256 by the public JWK': await sign({}, hs256, new TextEncoder().encode(publicJwkText)),
    'alg none': `${encode({ alg: 'none', typ: 'at+jwt' })}.${payload}.x`,
    'alg none with our signature': `${encode({ alg: 'none', typ: 'at+jwt' })}.${payload}.${signature}`,
    'changed claims': `${header}.${encode({ ...claims, scope: 'videos:delete' })}.${signature}`,
    'changed header': `${encode({ alg: 'ES256', typ: 'at+jwt', kid: 'x' })}.${payload}.${signature}`,
    'cut signature': good.slice(0, -4),
    'no JSON': 'a.b.c',
  }
  for (const [flaw, token] of Object.entries(bad)) {
    const answer = await gateway.call('/read', token)
    t.equal(answer.status, 401, flaw)
    t.equal(
      answer.challenge,
      'Bearer realm="video-gateway", error="invalid_token", error_description="The access token is not valid. Request a new one."',
      flaw,
    )
  }
  const unsigned = await gateway.call('/read', `${encode({ alg: 'none' })}.${payload}.`)
  t.equal(unsigned.status, 401, 'an unsecured JWT')
})

function publicPart({ d: _, ...rest }: jose.JWK): jose.JWK {
  return rest
}
