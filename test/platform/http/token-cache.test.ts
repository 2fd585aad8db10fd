import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { inspect } from 'node:util'
import { ClientSecretBasic } from 'openid-client'
import t, { type Test } from 'tap'
import { GatewayError } from '../../../src/errors.ts'
import { createPlatformHttp } from '../../../src/platform/http/http.ts'
import { clientCredentials } from '../../../src/platform/http/oauth.ts'
import { fixedAuthorization, type Grant, type Token } from '../../../src/platform/http/token-cache.ts'
import { defaultTools } from '../../../src/platform/tools.ts'
import { fakeClock, pause, setUp, toolsFor } from './token-setup.ts'

/** A grant that gives token 1, 2, 3 …, and knows what it was asked with. */
function counting(expiresIn: number | undefined = 3600) {
  const asked: (Token | undefined)[] = []
  const grant: Grant = async (previous) => {
    asked.push(previous)
    await new Promise((resolve) => setTimeout(resolve, 10))
    return { accessToken: `token-${asked.length}`, expiresIn, refreshToken: `refresh-${asked.length}` }
  }
  return { grant, asked }
}

t.test('1,000 concurrent first calls request one token', async (t) => {
  const { grant, asked } = counting()
  const { cache, outcomes } = setUp(grant)
  const headers = await Promise.all(Array.from({ length: 1_000 }, () => cache.header()))
  t.strictSame([...new Set(headers)], ['Bearer token-1'])
  t.equal(asked.length, 1)
  t.strictSame(outcomes, ['ok'])
})

t.test('a token without expiry is kept', async (t) => {
  const { grant, asked } = counting()
  const { cache } = setUp((...asked) => grant(...asked).then((token) => ({ ...token, expiresIn: undefined })))
  for (let i = 0; i < 3; i++) await cache.header()
  t.equal(asked.length, 1)
})

t.test('a token is renewed once before it expires, in the background', async (t) => {
  const clock = fakeClock(t)
  const { grant, asked } = counting(100)
  const { cache, logged } = setUp(async (...request) => {
    if (asked.length === 1 && clock.now() < 95_000) throw new Error('not now')
    return grant(...request)
  })
  t.equal(await cache.header(), 'Bearer token-1')
  clock.set(89_000)
  t.equal(await cache.header(), 'Bearer token-1')
  clock.set(91_000)
  t.equal(await cache.header(), 'Bearer token-1', 'a failed renewal does not affect calls yet')
  await pause()
  t.match(logged.join(), /renew the platform token early/)
  clock.set(96_000)
  for (const header of await Promise.all(Array.from({ length: 100 }, () => cache.header())))
    t.equal(header, 'Bearer token-1', 'no call waits')
  await pause()
  t.equal(asked.length, 2)
  t.match(asked[1], { accessToken: 'token-1', refreshToken: 'refresh-1' }, 'the old one is there to refresh')
  t.equal(await cache.header(), 'Bearer token-2')
})

t.test(
  'a long-lived token is renewed in its last minute; calls wait for the renewal of an expired one',
  async (t) => {
    const clock = fakeClock(t)
    const { grant, asked } = counting(86_400)
    const { cache } = setUp(grant)
    await cache.header()
    clock.set(86_400_000 - 61_000)
    await cache.header()
    await pause()
    t.equal(asked.length, 1)
    clock.set(86_400_000)
    t.equal(await cache.header(), 'Bearer token-2')
  },
)

t.test('a rejected token is dropped, but not its replacement', async (t) => {
  const { grant, asked } = counting()
  const { cache } = setUp(grant)
  const header = await cache.header()
  t.equal(cache.invalidate(header), true)
  t.equal(await cache.header(), 'Bearer token-2')
  t.match(asked[1], { refreshToken: 'refresh-1' })
  for (let i = 0; i < 10; i++) cache.invalidate(header)
  t.equal(await cache.header(), 'Bearer token-2')
  t.equal(asked.length, 2)
})

t.test(
  'a failed request fails all waiting calls and, for a pause, all new ones; then the next call tries again',
  async (t) => {
    const clock = fakeClock(t)
    let calls = 0
    const { cache, outcomes } = setUp(async () => {
      calls += 1
      await pause()
      if (calls === 1) throw new GatewayError('platform-unauthorized', 'no such client')
      return { accessToken: 'late', expiresIn: 60 }
    })
    const results = await Promise.allSettled(Array.from({ length: 100 }, () => cache.header()))
    t.ok(
      results.every(
        (result) => result.status === 'rejected' && result.reason.code === 'platform-unauthorized',
      ),
    )
    clock.set(999)
    const again = { code: 'platform-unauthorized', message: 'no such client', retryAfter: 1 }
    for (let i = 0; i < 10; i++) await t.rejects(cache.header(), again)
    t.equal(calls, 1)
    clock.set(1_000)
    t.equal(await cache.header(), 'Bearer late')
    t.equal(calls, 2)
    t.strictSame(outcomes, ['failed', 'ok'])
  },
)

t.test('fixed credentials are sent as they are', async (t) => {
  const authorization = fixedAuthorization('Basic abc')
  t.equal(await authorization.header(), 'Basic abc')
  t.equal(authorization.invalidate('Basic abc'), false)
})

const secret = 'very: secret+value'

t.test('each failure of a token endpoint has a code, and none repeats the endpoint’s text', async (t) => {
  const json = { 'content-type': 'application/json' }
  const invalid = (error: string) => JSON.stringify({ error, error_description: `wrong: ${secret}` })
  type Case = [string, (response: ServerResponse) => void, object]
  const cases: Case[] = [
    ['401', (r) => r.writeHead(401, json).end(invalid('invalid_client')), { code: 'platform-unauthorized' }],
    ['400', (r) => r.writeHead(400, json).end(invalid('invalid_grant')), { code: 'platform-unauthorized' }],
    [
      '429',
      (r) => r.writeHead(429, { ...json, 'retry-after': '9' }).end(invalid('slow_down')),
      { code: 'platform-throttled', retryAfter: 9 },
    ],
    [
      '503',
      (r) => r.writeHead(503, { 'retry-after': '4' }).end(`down ${secret}`),
      { code: 'platform-unavailable', retryAfter: 4 },
    ],
    [
      'HTML',
      (r) => r.writeHead(200, { 'content-type': 'text/html' }).end(secret),
      { code: 'platform-protocol-error' },
    ],
    [
      'no token',
      (r) => r.writeHead(200, json).end('{"token_type":"bearer"}'),
      { code: 'platform-protocol-error' },
    ],
    ...['a\r\nx: y', 'a b', 'a\0', 'é', 'x'.repeat(10_000)].map(
      (access_token): Case => [
        `the token ${access_token.slice(0, 10)}`,
        (r) => r.writeHead(200, json).end(JSON.stringify({ access_token, token_type: 'bearer' })),
        { code: 'platform-protocol-error' },
      ],
    ),
    ['broken JSON', (r) => r.writeHead(200, json).end(`{"${secret}`), { code: 'platform-protocol-error' }],
    ['no HTTP', (r) => r.socket?.end('220 SMTP\r\n'), { code: 'platform-protocol-error' }],
    ['cut', (r) => r.destroy(), { code: 'platform-unavailable' }],
    ['silence', () => {}, { code: 'platform-timeout' }],
  ]
  for (const [what, answer, expected] of cases) {
    const { cache } = setUp(clientCredentials(await startTokenEndpoint(t, (_request, r) => answer(r))))
    const error = await cache.header().then(
      () => t.fail('a token'),
      (reason) => reason,
    )
    t.type(error, GatewayError, what)
    t.match(error, expected, what)
    t.notMatch(inspect(error, { depth: 8 }), secret, what)
    t.notMatch(inspect(error, { depth: 8 }), encodeURIComponent(secret), what)
  }
})

t.test('only a valid lifetime of a token is accepted', async (t) => {
  const stated: [string, boolean][] = [
    ['', true],
    [',"expires_in":0', true],
    [',"expires_in":"3600"', true],
    [',"expires_in":1e99', true],
    [',"expires_in":1.5', true],
    [',"expires_in":-1', false],
    [',"expires_in":null', false],
    [',"expires_in":"soon"', false],
    [',"expires_in":[]', false],
  ]
  for (const [text, good] of stated) {
    let asked = 0
    const client = await startTokenEndpoint(t, (_request, response) => {
      asked += 1
      const type = { 'content-type': 'application/json' }
      response.writeHead(200, type).end(`{"access_token":"abc","token_type":"bearer"${text}}`)
    })
    const { cache } = setUp(clientCredentials(client))
    for (let i = 0; i < 20; i++) {
      if (good) t.equal(await cache.header(), 'Bearer abc', text)
      else await t.rejects(cache.header(), { code: 'platform-protocol-error' }, text)
    }
    t.ok(asked < 5, `${asked} requests for 20 calls`)
  }
})

t.test('client credentials are sent in the header, and redirects are not followed', async (t) => {
  const seen: IncomingMessage['headers'][] = []
  const client = await startTokenEndpoint(t, ({ headers }, response) => {
    seen.push(headers)
    const redirects = [301, 302, 303, 307, 308]
    if (seen.length > 1)
      return void response.writeHead(redirects[seen.length - 2]!, { location: '/elsewhere' }).end()
    const body = JSON.stringify({ access_token: 'abc', token_type: 'bearer', expires_in: 60 })
    response.writeHead(200, { 'content-type': 'application/json' }).end(body)
  })
  const { cache } = setUp(clientCredentials(client))
  t.equal(await cache.header(), 'Bearer abc')
  t.match(seen[0]?.authorization, /^Basic /)
  for (let number = 2; number <= 6; number++) {
    const { cache } = setUp(clientCredentials(client))
    await t.rejects(cache.header(), { code: 'platform-protocol-error' })
    t.equal(seen.length, number)
  }
})

async function startTokenEndpoint(
  t: Test,
  answer: (request: IncomingMessage, response: ServerResponse) => void,
) {
  const server = createServer(answer)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const http = createPlatformHttp({
    name: 'acme',
    baseUrl,
    authorization: fixedAuthorization('none'),
    tools: { ...toolsFor(), timeouts: { ...defaultTools.timeouts, whole: 300 } },
  })
  t.teardown(() => http.close())
  const authentication = ClientSecretBasic(secret)
  return () => ({ http, tokenEndpoint: `${baseUrl}/token`, clientId: 'gateway', authentication })
}
