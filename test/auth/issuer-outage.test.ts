import type { IncomingMessage, ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import t, { type Test } from 'tap'
import { createExternalIssuer } from '../../src/auth/external-issuer.ts'
import { issuerPolicy } from '../../src/auth/issuer-keys.ts'
import { startGateway as startWholeGateway } from '../support/gateway.ts'
import { startGateway } from './gateway.ts'
import { audience, claims, type IssuerDouble, startIssuer } from './issuer-double.ts'

const metadataPath = '/.well-known/openid-configuration'
const away = { status: 503, body: { code: 'issuer-unavailable' }, challenge: null }

async function start(t: Test, issuer: IssuerDouble, changes: Partial<typeof issuerPolicy> = {}) {
  const said: string[] = []
  const note = (details: object, message: string) => said.push(`${message} ${JSON.stringify(details)}`)
  const policy = { ...issuerPolicy, ...changes }
  const log = { info: note, warn: note }
  const external = createExternalIssuer({ issuerUrl: issuer.url, claims, log, policy })
  t.teardown(external.close)
  const gateway = await startGateway(t, { external })
  const read = (token: string) => gateway.call('/read', token)
  return { said, read }
}

/** Repeats a call until it is answered with this status, ten seconds at most. */
async function until(status: number, call: () => Promise<{ status: number }>) {
  for (const deadline = Date.now() + 10_000; Date.now() < deadline; await sleep(10))
    if ((await call()).status === status) return
  throw new Error(`never ${status}`)
}

t.test(
  'if the issuer is unavailable at the first token: 503, one log line, automatic recovery',
  async (t) => {
    const issuer = await startIssuer(t)
    const { said, read } = await start(t, issuer, { firstPause: 50, longestPause: 100 })
    const token = await issuer.sign()
    await issuer.stop()
    for (let count = 0; count < 20; count++) t.match(await read(token), away)
    t.equal(said.length, 1)
    t.match(said[0], /^external token issuer is unavailable .*ECONNREFUSED.*"knownKeys":false/)
    await issuer.start()
    await until(200, () => read(token))
    t.match(said.slice(1), [/^external token issuer is available again/])
  },
)

t.test('known keys remain valid while the issuer is unavailable', async (t) => {
  const issuer = await startIssuer(t)
  const ages = { renewAfter: 20, maxAge: 40, cooldown: 0 }
  const { said, read } = await start(t, issuer, { ...ages, firstPause: 300, longestPause: 300 })
  const [good, rotated] = [await issuer.sign(), await issuer.sign({}, { kid: 'rotated' })]
  const forged = `${good.slice(0, -6)}AAAAAA`
  t.equal((await read(good)).status, 200)
  t.equal((await read(rotated)).status, 401, 'the issuer says that there is no such key')
  await issuer.stop()
  await sleep(50)
  for (let count = 0; count < 10; count++) {
    t.equal((await read(good)).status, 200)
    t.equal((await read(forged)).status, 401, 'known keys still reject a forged token')
    t.match(await read(rotated), away, 'a token with an unknown key gets 503')
  }
  t.equal(said.length, 1)
  issuer.answers['/keys'] = { keys: [issuer.publicJwk, { ...issuer.publicJwk, kid: 'rotated' }] }
  await issuer.start()
  await until(200, () => read(rotated))
  t.equal(said.length, 2)
})

t.test('keys that could not be confirmed for too long are discarded', async (t) => {
  const issuer = await startIssuer(t)
  const { read } = await start(t, issuer, { renewAfter: 10, maxAge: 20, longestUse: 100 })
  const token = await issuer.sign()
  t.equal((await read(token)).status, 200)
  await issuer.stop()
  await until(503, () => read(token))
})

t.test('one request to the issuer is in progress at a time', async (t) => {
  const issuer = await startIssuer(t)
  const { read } = await start(t, issuer)
  const tokens = await Promise.all(Array.from({ length: 50 }, () => issuer.sign()))
  const answers = await Promise.all(tokens.map(read))
  t.ok(answers.every(({ status }) => status === 200))
  t.strictSame(issuer.requests, [metadataPath, '/keys'])
})

t.test('tokens with made-up key ids cause few requests to the issuer, and then none', async (t) => {
  const issuer = await startIssuer(t)
  // Long enough for a slow machine: no search is paid for while the test runs.
  const { read } = await start(t, issuer, { cooldown: 600_000 })
  const forged = await Promise.all(
    Array.from({ length: 100 }, (_, index) => issuer.sign({}, { kid: `made-up-${index}` })),
  )
  const statuses = new Set((await Promise.all(forged.map(read))).map(({ status }) => status))
  for (const token of forged.slice(0, 20)) statuses.add((await read(token)).status)
  t.strictSame([...statuses], [401])
  t.equal(issuer.requests.length, 2 * (1 + issuerPolicy.searches))
  for (const token of forged) t.equal((await read(token)).status, 401)
  t.equal(issuer.requests.length, 2 * (1 + issuerPolicy.searches), 'the searches are used up')
  t.equal((await read(await issuer.sign())).status, 200, 'known keys are as good as before')
})

t.test('a key that the issuer rotates to is accepted immediately, and the old one no longer', async (t) => {
  const issuer = await startIssuer(t)
  const { said, read } = await start(t, issuer, { cooldown: 600_000 })
  const old = await issuer.sign()
  t.equal((await read(old)).status, 200)
  for (const kid of ['two', 'three']) {
    issuer.answers['/keys'] = { keys: [{ ...issuer.publicJwk, kid }] }
    const tokens = await Promise.all(Array.from({ length: 20 }, () => issuer.sign({}, { kid })))
    const answers = await Promise.all(tokens.map(read))
    t.ok(answers.every(({ status }) => status === 200))
  }
  t.equal(issuer.requests.length, 6, 'one question for each rotation')
  t.equal((await read(old)).status, 401)
  t.strictSame(said, [])
})

t.test('after a flood of made-up key ids a new key is found when the next search is due', async (t) => {
  const issuer = await startIssuer(t)
  const { read } = await start(t, issuer, { cooldown: 300 })
  for (let count = 0; count < 30; count++) await read(await issuer.sign({}, { kid: `made-up-${count}` }))
  issuer.answers['/keys'] = { keys: [{ ...issuer.publicJwk, kid: 'two' }] }
  const token = await issuer.sign({}, { kid: 'two' })
  await until(200, () => read(token))
})

/** Whatever an issuer may do instead of answering: at its metadata, and at its keys. */
type Listener = (request: IncomingMessage, response: ServerResponse) => void
const json = { 'content-type': 'application/json' }
const misbehaviours: Record<string, Listener> = {
  'answers 500': (_, response) => void response.writeHead(500, json).end('{}'),
  'answers 404': (_, response) => void response.writeHead(404, json).end('{}'),
  'answers 204': (_, response) => void response.writeHead(204).end(),
  'never answers': () => {},
  'sends its head and nothing more': (_, response) => response.writeHead(200, json).flushHeaders(),
  'drips a byte at a time': (_, response) => {
    response.writeHead(200, json)
    const timer = setInterval(() => response.write(' '), 20)
    response.on('close', () => clearInterval(timer))
  },
  'sends without end': (_, response) => {
    response.writeHead(200, json)
    const block = Buffer.alloc(64 * 1024, 0x20)
    const send = () => {
      while (!response.destroyed && response.write(block));
    }
    response.on('drain', send)
    send()
  },
  'sends a gzip bomb': (_, response) => {
    const bomb = gzipSync(Buffer.alloc(64 * 2 ** 20, 0x20))
    response.writeHead(200, { ...json, 'content-encoding': 'gzip' }).end(bomb)
  },
  'redirects elsewhere': (_, response) => void response.writeHead(302, { location: '/elsewhere' }).end(),
  'resets the connection': (request) => void request.socket.destroy(),
  'answers no JSON': (_, response) => void response.writeHead(200, json).end('<html>'),
  'answers another type': (_, response) =>
    void response.writeHead(200, { 'content-type': 'text/html' }).end(),
  'answers JSON of another kind': (_, response) => void response.writeHead(200, json).end('[null]'),
}

for (const [name, misbehave] of Object.entries(misbehaviours)) {
  t.test(`an issuer that ${name}`, async (t) => {
    for (const path of [metadataPath, '/keys']) {
      const issuer = await startIssuer(t)
      const right = issuer.answers[path]
      issuer.answers['/elsewhere'] = right
      issuer.answers[path] = misbehave
      const times = { deadline: 300, firstPause: 100, longestPause: 100 }
      const { said, read } = await start(t, issuer, times)
      const token = await issuer.sign()
      const answers = await Promise.all([read(token), read(token), read(token)])
      for (const answer of answers) t.match(answer, away, path)
      const started = performance.now()
      for (let count = 0; count < 10; count++) t.match(await read(token), away)
      t.ok(
        performance.now() - started < 2_000,
        'no request waits for an issuer that is known to be unavailable',
      )
      t.match(said, [/is unavailable/], 'said once')
      t.ok((said[0]?.length ?? 0) < 500, 'in few words')
      t.notOk(issuer.requests.includes('/elsewhere'))
      issuer.answers[path] = right
      await until(200, () => read(token))
    }
  })
}

t.test('metadata of another issuer or without keys is rejected', async (t) => {
  const issuer = await startIssuer(t)
  const token = await issuer.sign()
  for (const metadata of [
    { issuer: 'https://elsewhere.example', jwks_uri: `${issuer.url}/keys` },
    { issuer: issuer.url },
    { issuer: issuer.url, jwks_uri: 'http://elsewhere.example/keys' },
    { issuer: issuer.url, jwks_uri: 'file:///etc/keys' },
    { issuer: issuer.url, jwks_uri: '/keys' },
  ]) {
    issuer.answers[metadataPath] = metadata
    const { read } = await start(t, issuer)
    t.match(await read(token), away)
  }
})

t.test('the gateway responds with Retry-After, without a challenge, and logs one short line', async (t) => {
  const issuer = await startIssuer(t)
  const lines: string[] = []
  const gateway = await startWholeGateway(t, {
    env: { OAUTH_ISSUER: issuer.url, OAUTH_AUDIENCE: audience },
    logger: { level: 'info', stream: { write: (line: string) => void lines.push(line) } },
  })
  const get = (token: string) =>
    gateway.call('GET', '/v1/videos', { headers: { authorization: `Bearer ${token}` } })
  const token = await issuer.sign()
  await issuer.stop()
  const { status, headers, body } = await get(token)
  t.match({ status, body }, { status: 503, body: { code: 'issuer-unavailable' } })
  t.match(headers.get('retry-after'), /^[12]$/)
  t.equal(headers.get('www-authenticate'), null)
  lines.length = 0
  for (let count = 0; count < 300; count++) await get(await issuer.sign({}, { kid: `made-up-${count}` }))
  t.ok(lines.join('').length < 300 * 700, `${lines.join('').length} bytes of log`)
  t.ok(lines.every((line) => !line.includes('"stack"')))
  t.notMatch(lines.join(''), 'external token issuer is', 'what was said is not said again')
  await issuer.start()
  await until(200, () => get(token))
})
