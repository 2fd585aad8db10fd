import { spawnSync } from 'node:child_process'
import * as jose from 'jose'
import t, { type Test } from 'tap'
import { hashSecret } from '../../src/auth/credentials.ts'
import { deriveBytes, deriveSigningKey, generateGatewaySecret } from '../../src/auth/gateway-secret.ts'
import { loadConfig } from '../../src/config/config.ts'
import { startGateway } from '../support/gateway.ts'

const PUBLIC_URL = 'https://gateway.example'
const OAUTH_CLIENTS = `cms:${hashSecret('secret').toString('hex')}`
const [one, two] = [generateGatewaySecret(), generateGatewaySecret()]

/** A process of the gateway with these secrets; each has its own store, as if it had been restarted. */
async function start(t: Test, env: Record<string, string>) {
  const gateway = await startGateway(t, { env: { PUBLIC_URL, OAUTH_CLIENTS, ...env } })
  return {
    async token(): Promise<string> {
      const form = { grant_type: 'client_credentials', client_id: 'cms', client_secret: 'secret' }
      const response = await fetch(`${gateway.url}/oauth2/token`, {
        method: 'POST',
        body: new URLSearchParams(form),
      })
      return ((await response.json()) as { access_token: string }).access_token
    },
    async read(token: string) {
      const headers = { authorization: `Bearer ${token}` }
      return (await gateway.call('GET', '/v1/videos', { headers })).status
    },
    async keys(): Promise<jose.JWK[]> {
      return (await gateway.call('GET', '/.well-known/jwks.json')).body.keys
    },
  }
}

t.test('replicas with the same secret accept each other’s tokens, and no others', async (t) => {
  const [a, b, other] = [
    await start(t, { GATEWAY_SECRET: one }),
    await start(t, { GATEWAY_SECRET: ` ${one} ,` }),
    await start(t, { GATEWAY_SECRET: two }),
  ]
  t.equal(await b.read(await a.token()), 200)
  t.equal(await other.read(await a.token()), 401)
  t.strictSame(await a.keys(), await b.keys())
})

t.test('a rotation in two steps invalidates no token and no replica', async (t) => {
  const steps = [one, `${one},${two}`, `${two},${one}`, two]
  const processes = await Promise.all(steps.map((GATEWAY_SECRET) => start(t, { GATEWAY_SECRET })))
  const tokens = await Promise.all(processes.map((process) => process.token()))
  for (const [index, process] of processes.entries()) {
    // A rolling restart has processes of two neighbouring steps at a time.
    for (const neighbour of [index - 1, index, index + 1].filter((step) => step in steps))
      t.equal(await process.read(tokens[neighbour] as string), 200, `token of ${neighbour} at ${index}`)
  }
  t.equal(await processes[3]?.read(tokens[0] as string), 401, 'the old secret is gone at the end')
  const keys = (await processes[2]?.keys()) ?? []
  t.equal(keys.length, 2)
  t.ok(keys.every((key) => key.kid && key.alg === 'ES256' && !('d' in key)))
  t.equal(jose.decodeProtectedHeader(tokens[2] as string).kid, keys[0]?.kid, 'the first one signs')
  const published = jose.createLocalJWKSet({ keys })
  for (const token of tokens) await t.resolves(jose.jwtVerify(token, published))
})

t.test('OAUTH_SIGNING_KEY takes precedence', async (t) => {
  const { privateKey } = await jose.generateKeyPair('EdDSA', { extractable: true })
  const OAUTH_SIGNING_KEY = JSON.stringify(await jose.exportJWK(privateKey))
  const gateway = await start(t, { OAUTH_SIGNING_KEY, GATEWAY_SECRET: one })
  t.match(await gateway.keys(), [{ alg: 'EdDSA' }])
  t.equal(await gateway.read(await gateway.token()), 200)
  t.equal(await gateway.read(await (await start(t, { GATEWAY_SECRET: one })).token()), 401)
})

t.test('the derivation never changes: an upgrade would invalidate every token', async (t) => {
  // Computed with Python's hmac and integers.
  t.strictSame(deriveSigningKey('vgs_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8'), {
    kty: 'EC',
    crv: 'P-256',
    x: 'fWsdYZkQAC1mGuKhhW3gKaPM4zRu5KsAWypt1u4WXz4',
    y: 'M03DfiL-ZkKoTVG3DWbqi4EOdjk4u33AAUaMfNPHE0M',
    d: 's3YwuhXVkD7lJJl83QQ1moIb-F2ZiPiFDoH9AMe4lVM',
  })
  t.notSame(deriveBytes(one, 'one purpose', 32), deriveBytes(one, 'another purpose', 32))
  for (let count = 0; count < 50; count++) {
    const key = deriveSigningKey(generateGatewaySecret())
    await t.resolves(jose.importJWK(key, 'ES256'))
    t.ok([key.x, key.y, key.d].every((part) => part?.length === 43))
  }
})

const random = Buffer.from('hJ4+b0/Qx7VnYt2sRfW8kLmZp3cEuA6iDgTo9yNqXvM=', 'base64')
const accepted = [
  one,
  random.toString('base64'),
  random.toString('base64url'),
  random.toString('hex'),
  `${one},${two}`,
]
const rejected: Record<string, string> = {
  'too short': 'secret-changeit',
  '31 bytes in hexadecimal': random.subarray(1).toString('hex'),
  '24 bytes in base64': random.subarray(8).toString('base64'),
  'a hash in MD5': 'd41d8cd98f00b204e9800998ecf8427e',
  'one character': 'x'.repeat(64),
  'a phrase that repeats itself': 'changeme'.repeat(8),
  'the second one': `${one},weak`,
}

t.test('only secrets of at least 32 random bytes are accepted', async (t) => {
  const secretsOf = (GATEWAY_SECRET: string) => loadConfig({ GATEWAY_SECRET }).secrets
  for (const text of accepted) t.strictSame(secretsOf(text), text.split(','))
  t.strictSame(secretsOf(`${one}, ${one},`), [one])
  t.strictSame(secretsOf(' '), [])
  t.throws(() => secretsOf(`GATEWAY_SECRET=${one}`), /^GATEWAY_SECRET: secret 1 begins with GATEWAY_SECRET=/)
  for (const [flaw, GATEWAY_SECRET] of Object.entries(rejected)) {
    const error = t.throws(
      () => loadConfig({ GATEWAY_SECRET }),
      /^GATEWAY_SECRET: secret [12] is too weak/,
      flaw,
    )
    t.notMatch(String(error), GATEWAY_SECRET, 'it is not repeated')
  }
})

t.test('npm run secret prints a line for the configuration', async (t) => {
  const script = new URL('../../scripts/secret.ts', import.meta.url).pathname
  const run = (...args: string[]) => spawnSync(process.execPath, [script, ...args], { encoding: 'utf8' })
  const [, secret = ''] = /^GATEWAY_SECRET=(vgs_[\w-]{43})\n$/.exec(run().stdout) ?? []
  t.strictSame(loadConfig({ GATEWAY_SECRET: secret }).secrets, [secret])
  t.not(run().stdout, `GATEWAY_SECRET=${secret}\n`)
  const help = run('--help')
  t.strictSame([help.status, help.stdout], [2, ''])
  t.match(help.stderr, /^usage: npm run secret/)
})
