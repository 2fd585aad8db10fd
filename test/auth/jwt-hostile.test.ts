import { createHmac } from 'node:crypto'
import { readFileSync } from 'node:fs'
import * as jose from 'jose'
import t from 'tap'
import { hashSecret } from '../../src/auth/credentials.ts'
import { startGateway } from '../support/gateway.ts'

const issuer = 'https://gateway.example'
const now = () => Math.floor(Date.now() / 1000)
const base64 = (value: unknown) =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')

async function keyPair() {
  const { privateKey, publicKey } = await jose.generateKeyPair('ES256', { extractable: true })
  const jwk = await jose.exportJWK(privateKey)
  const publicJwk = await jose.exportJWK(publicKey)
  return { privateKey, publicKey, jwk, publicJwk, kid: await jose.calculateJwkThumbprint(publicJwk) }
}

const claims = () => ({
  iss: issuer,
  aud: issuer,
  sub: 'cms',
  client_id: 'cms',
  scope: 'videos:read videos:write videos:delete',
  iat: now(),
  exp: now() + 300,
  jti: 'one',
})

t.test('forged tokens are rejected', async (t) => {
  const own = await keyPair()
  const other = await keyPair()
  const gateway = await startGateway(t, {
    env: { PUBLIC_URL: issuer, OAUTH_SIGNING_KEY: JSON.stringify(own.jwk) },
  })
  const header = { alg: 'ES256', typ: 'at+jwt', kid: own.kid }
  const sign = (changes: object = {}, head: object = {}, key = own.privateKey) => {
    const all = Object.entries({ ...claims(), ...changes }).filter(([, value]) => value !== undefined)
    return new jose.SignJWT(Object.fromEntries(all)).setProtectedHeader({ ...header, ...head }).sign(key)
  }
  const unsigned = (alg: string, signature = '') =>
    `${base64({ ...header, alg })}.${base64(claims())}.${signature}`
  const hmac = (secret: string | Buffer, head: object = {}) => {
    const text = `${base64({ ...header, alg: 'HS256', ...head })}.${base64(claims())}`
    return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`
  }
  const good = await sign()
  const [head, payload, signature = ''] = good.split('.')
  const pem = await jose.exportSPKI(own.publicKey)
  const rsa = await jose.generateKeyPair('RS256')
  const ask = (token: string, path = '/v1/videos') =>
    gateway.call('GET', path, { headers: { authorization: `Bearer ${token}` } })
  t.equal((await ask(good)).status, 200, 'a good one opens the door')

  const hostile: Record<string, string> = {
    'alg none': unsigned('none'),
    'alg None': unsigned('None'),
    'alg nOnE with a signature': unsigned('nOnE', signature),
    'alg empty': unsigned(''),
    'no signature': `${head}.${payload}.`,
    'a signature of zeros': `${head}.${payload}.${Buffer.alloc(64).toString('base64url')}`,
    'half a signature': `${head}.${payload}.${signature.slice(0, 43)}`,
    'a signature in DER': `${head}.${payload}.${Buffer.from('300602010102010a', 'hex').toString('base64url')}`,
    'changed claims': `${head}.${base64({ ...claims(), client_id: 'root' })}.${signature}`,
    'changed header': `${base64({ ...header, x: 1 })}.${payload}.${signature}`,
    'another key, our kid': await sign({}, {}, other.privateKey),
    'another key, brought along': await sign({}, { jwk: other.publicJwk }, other.privateKey),
    'another key, by URL': await sign({}, { jku: 'http://127.0.0.1:9/keys', kid: 'x' }, other.privateKey),
    'another key, by certificate URL': await sign({}, { x5u: 'http://127.0.0.1:9/cert' }, other.privateKey),
    'another key, kid of a path': await sign({}, { kid: '../../../../dev/null' }, other.privateKey),
    'another key, kid of SQL': await sign({}, { kid: "' OR '1'='1" }, other.privateKey),
    'the public key as an HMAC secret': hmac(JSON.stringify(own.publicJwk)),
    'the public key’s PEM as an HMAC secret': hmac(pem),
    'an empty HMAC secret': hmac(''),
    'an HMAC with the kid as secret': hmac(own.kid),
    'RS256 by another key': await sign({}, { alg: 'RS256' }, rsa.privateKey),
    expired: await sign({ exp: now() - 60 }),
    'expired long ago': await sign({ exp: 1 }),
    'no expiry': await sign({ exp: undefined }),
    'an expiry that is text': `${head}.${base64({ ...claims(), exp: '9999999999' })}.${signature}`,
    'not yet valid': await sign({ nbf: now() + 60 }),
    'another issuer': await sign({ iss: 'https://evil.example' }),
    'an issuer with a slash': await sign({ iss: `${issuer}/` }),
    'no issuer': await sign({ iss: undefined }),
    'another audience': await sign({ aud: 'https://other.example' }),
    'an audience that begins like ours': await sign({ aud: `${issuer}.evil.example` }),
    'no audience': await sign({ aud: undefined }),
    'no subject': await sign({ sub: undefined }),
    'no client': await sign({ client_id: undefined }),
    'no scope': await sign({ scope: undefined }),
    'an ID token': await sign({}, { typ: 'JWT' }),
    'no type': await sign({}, { typ: undefined }),
    'a critical extension': `${base64({ ...header, crit: ['exp'] })}.${payload}.${signature}`,
    'an unencoded payload': `${base64({ ...header, b64: false, crit: ['b64'] })}.${payload}.${signature}`,
    'a header that is no JSON': `${base64('{')}.${payload}.${signature}`,
    'a header that is null': `${base64('null')}.${payload}.${signature}`,
    'a payload that is a list': `${head}.${base64('[]')}.${signature}`,
    'a payload that is no JSON': `${head}.${base64('x')}.${signature}`,
    'a prototype in the payload': `${head}.${base64('{"__proto__":{"scope":"videos:read"}}')}.${signature}`,
    'a JWE': `${head}.a.b.c.d`,
    dots: '..',
    'a JWT of 10 KB': `${head}.${'a'.repeat(10_000)}.${signature}`,
  }
  const count = Object.keys(hostile).length
  t.match(readFileSync('docs/reliability.md', 'utf8'), `| ${count} hostile JWTs; `)
  for (const [name, token] of Object.entries(hostile)) {
    const { status, body, headers } = await ask(token)
    t.strictSame([status, body.code], [401, 'unauthorized'], name)
    t.match(headers.get('www-authenticate'), /^Bearer realm="video-gateway", error="invalid_token"/, name)
    const flaw = name.startsWith('expired') ? 'has expired' : 'is not valid'
    const details = [
      `The access token ${flaw}. Request a new one.`,
      'The API key is not valid. Check it or ask the operator for a new one.',
    ]
    t.ok(details.includes(body.detail), `${name}: says no more than that it is so: ${body.detail}`)
  }

  for (const scope of ['', 'videos:READ', 'videos:*', 'admin', '__proto__', 'videos:write', 'xvideos:read'])
    t.equal((await ask(await sign({ scope }))).status, 403, `scope ${scope}`)
  for (const scope of [['videos:read'], { 'videos:read': true }, 1, null])
    t.ok(
      [401, 403].includes((await ask(await sign({ scope }))).status) || Array.isArray(scope),
      `scope ${JSON.stringify(scope)}`,
    )
  for (const place of ['?access_token=', '?token=', '?authorization=Bearer%20']) {
    const path = `/v1/videos${place}${good}`
    t.equal(
      (await gateway.call('GET', path, { headers: { authorization: '' } })).status,
      401,
      'only in the header',
    )
  }
})

t.test('an unknown client and a wrong secret get the same response', async (t) => {
  const OAUTH_CLIENTS = `cms:${hashSecret('right').toString('hex')}`
  const gateway = await startGateway(t, { env: { OAUTH_CLIENTS } })
  const ask = async (id: string, secret: string) => {
    const response = await fetch(`${gateway.url}/oauth2/token`, {
      method: 'POST',
      body: new URLSearchParams({ grant_type: 'client_credentials', client_id: id, client_secret: secret }),
    })
    const own = ['date', 'x-request-id', 'ratelimit-remaining', 'ratelimit-reset']
    const headers = [...response.headers].filter(([name]) => !own.includes(name))
    return { status: response.status, headers, body: await response.text() }
  }
  t.equal((await ask('cms', 'right')).status, 200)
  const wrong = await ask('cms', 'wrong')
  t.equal(wrong.status, 401)
  t.strictSame(await ask('nobody', 'right'), wrong)
  t.strictSame(await ask('__proto__', 'wrong'), wrong)
})
