import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, createServer as createTcpServer, type Server } from 'node:net'
import { Readable } from 'node:stream'
import { Type } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import type { GatewayError } from '../../src/errors.ts'
import { refusalOf, retryAfterOf } from '../../src/platform/failures.ts'
import { type Authorization, createPlatformHttp, type PlatformRequest } from '../../src/platform/http.ts'
import { VideoMissingError } from '../../src/platform/platform.ts'
import type { PlatformTools } from '../../src/platform/tools.ts'
import { createKit, type Exchange, type Fault } from './double.ts'

const { signal } = new AbortController()
const get: PlatformRequest = { operation: 'status', method: 'GET', url: 'thing', signal }
const post: PlatformRequest = { operation: 'provision', method: 'POST', url: 'thing', json: {}, signal }
const permanent: Authorization = { header: async () => 'Bearer one', refused: () => false }

interface Options {
  tools?: Partial<PlatformTools>
  authorization?: Authorization
  uploadHosts?: string[]
  handle?: (exchange: Exchange) => void | Promise<void>
}

async function setUp(t: Test, { tools, authorization = permanent, uploadHosts, handle }: Options = {}) {
  const kit = createKit()
  const seen: Exchange[] = []
  const baseUrl = await kit.listen({
    operations: () => ['status'],
    async handle(exchange) {
      seen.push(exchange)
      if (handle) return handle(exchange)
      await exchange.body()
      exchange.answer(200, { ok: true })
    },
  })
  const circuits: string[] = []
  const outcomes: string[] = []
  const http = createPlatformHttp({
    name: 'acme',
    baseUrl,
    authorization,
    ...(uploadHosts && { uploadHosts }),
    tools: {
      log: { info() {}, warn() {}, error() {} },
      observer: {
        call: ({ outcome }) => void outcomes.push(outcome),
        circuit: (_platform, state) => void circuits.push(state),
        tokenRequest() {},
      },
      timeouts: { connect: 300, answer: 200, afterUpload: 300 },
      retries: 2,
      circuit: { failures: 100, halfOpenAfter: 300 },
      ...tools,
    },
  })
  t.teardown(async () => {
    await http.close()
    await kit.close()
  })
  const fail = (fault: Fault, times = 1) => kit.fail('status', fault, times)
  return { http, fail, seen, baseUrl, circuits, outcomes, calls: () => kit.calls('status') }
}

t.test('sends JSON, authorized, and reads JSON back', async (t) => {
  const { http, seen, outcomes } = await setUp(t)
  t.strictSame(await http.json(Type.Object({ ok: Type.Boolean() }), post), { ok: true })
  t.match(seen[0]?.headers, { authorization: 'Bearer one', 'content-type': 'application/json' })
  t.strictSame(outcomes, ['ok'])
})

t.test('what each status means', async (t) => {
  const codes: [number, string][] = [
    [302, 'platform-protocol-error'],
    [400, 'platform-rejected'],
    [401, 'platform-unauthorized'],
    [403, 'platform-unauthorized'],
    [404, 'platform-rejected'],
    [408, 'platform-timeout'],
    [410, 'platform-rejected'],
    [413, 'platform-rejected'],
    [429, 'platform-throttled'],
    [500, 'platform-unavailable'],
    [503, 'platform-unavailable'],
  ]
  for (const [status, code] of codes) {
    t.equal(refusalOf('acme', status).code, code, `${status}`)
    t.equal(refusalOf('acme', status) instanceof VideoMissingError, status === 404 || status === 410)
  }
})

t.test('Retry-After has two forms', async (t) => {
  t.equal(retryAfterOf({ 'retry-after': '7' }), 7)
  const date = new Date(Date.now() + 9_500).toUTCString()
  t.ok([9, 10].includes(retryAfterOf({ 'retry-after': date }) ?? 0))
  t.equal(retryAfterOf({ 'retry-after': 'Mon, 01 Jan 2001 00:00:00 GMT' }), 0)
  t.equal(retryAfterOf({ 'retry-after': 'soon' }), undefined)
  t.equal(retryAfterOf({}), undefined)
})

t.test('a redirect is not followed', async (t) => {
  const { http, fail, calls } = await setUp(t)
  fail({ status: 302, headers: { location: '/elsewhere' } })
  await t.rejects(http.send(get), { code: 'platform-protocol-error' })
  t.equal(calls(), 1)
})

t.test('idempotent calls are repeated, others are not', async (t) => {
  const { http, fail, calls } = await setUp(t)
  fail({ status: 503 }, 2)
  t.match(await http.send(get), { status: 200 })
  t.equal(calls(), 3)
  fail({ status: 503 }, 3)
  await t.rejects(http.send(get), { code: 'platform-unavailable' })
  t.equal(calls(), 6)
  fail({ status: 503 })
  await t.rejects(http.send(post), { code: 'platform-unavailable' })
  t.equal(calls(), 7)
  fail({ status: 503 })
  await http.send({ ...post, idempotent: true })
  t.equal(calls(), 9)
  fail({ status: 400 })
  await t.rejects(http.send(get), { code: 'platform-rejected' })
  t.equal(calls(), 10, 'a refusal is final')
})

t.test('Retry-After is waited for when it is short, and told when it is long', async (t) => {
  const { http, fail, calls } = await setUp(t)
  fail({ status: 429, headers: { 'retry-after': '1' } })
  const started = performance.now()
  await http.send(get)
  t.ok(performance.now() - started >= 990)
  fail({ status: 503, headers: { 'retry-after': '120' } })
  await t.rejects(http.send(get), { code: 'platform-unavailable', retryAfter: 120 })
  t.equal(calls(), 3)
})

t.test('an abort ends a call, and the wait between two attempts', async (t) => {
  const { http, fail, calls } = await setUp(t)
  for (const fault of [{ hang: true }, { status: 503, headers: { 'retry-after': '4' } }]) {
    fail(fault)
    const controller = new AbortController()
    const reason = new Error('enough')
    setTimeout(() => controller.abort(reason), 50)
    const started = performance.now()
    await t.rejects(http.send({ ...get, signal: controller.signal }), reason)
    t.ok(performance.now() - started < 150)
  }
  t.equal(calls(), 2)
})

t.test('an answer may take its time between two pieces, not longer', async (t) => {
  const { http, fail } = await setUp(t, { tools: { retries: 0 } })
  fail({ hang: true })
  await t.rejects(http.send(get), { code: 'platform-timeout' })
})

t.test('a slow upload is no timeout; no answer after its end is', async (t) => {
  const { http, fail, seen } = await setUp(t)
  async function* slowly() {
    for (const piece of ['a', 'b', 'c', 'd', 'e', 'f']) {
      await new Promise((resolve) => setTimeout(resolve, 100))
      yield Buffer.from(piece)
    }
  }
  const upload = () => ({ ...get, method: 'PUT' as const, body: Readable.from(slowly()), length: 6 })
  t.match(await http.send(upload()), { status: 200 })
  t.equal(seen[0]?.headers['content-length'], '6')
  fail({ hang: true, late: true })
  const started = performance.now()
  await t.rejects(http.send(upload()), { code: 'platform-timeout' })
  t.ok(performance.now() - started >= 850)
})

t.test('a stream is sent once, even to an idempotent call or after 401', async (t) => {
  const authorization = { header: async () => 'Bearer one', refused: () => true }
  const { http, fail, calls } = await setUp(t, { authorization })
  const upload = () => ({ ...get, method: 'PUT' as const, idempotent: true, body: Readable.from(['x']) })
  fail({ status: 503 })
  await t.rejects(http.send(upload()), { code: 'platform-unavailable' })
  fail({ status: 401 })
  await t.rejects(http.send(upload()), { code: 'platform-unauthorized' })
  t.equal(calls(), 2)
})

t.test('401: once more, with another token', async (t) => {
  let number = 0
  const refused: string[] = []
  const authorization: Authorization = {
    header: async () => `Bearer ${number}`,
    refused: (header) => {
      refused.push(header)
      number += 1
      return true
    },
  }
  const { http, fail, calls, seen } = await setUp(t, { authorization })
  fail({ status: 401 })
  await http.send(post)
  t.strictSame(refused, ['Bearer 0'])
  t.equal(seen[0]?.headers.authorization, 'Bearer 1')
  fail({ status: 401 }, 2)
  await t.rejects(http.send(get), { code: 'platform-unauthorized' })
  t.equal(calls(), 4)
})

t.test('the token stays with the platform’s own origin', async (t) => {
  const other = await setUp(t)
  const { http, seen } = await setUp(t)
  await http.send({ ...get, url: `${other.baseUrl}/elsewhere` })
  t.equal(other.seen[0]?.headers.authorization, undefined)
  await http.send({ ...get, authorized: false })
  t.equal(seen[0]?.headers.authorization, undefined)
})

t.test('the circuit opens, tries again, and closes', async (t) => {
  const tools = { retries: 0, circuit: { failures: 3, halfOpenAfter: 200 } }
  const { http, fail, calls, circuits } = await setUp(t, { tools })
  fail({ status: 503 }, 4)
  for (let i = 0; i < 3; i++) await t.rejects(http.send(get), { code: 'platform-unavailable' })
  await t.rejects(http.send(post), { code: 'platform-unavailable', retryAfter: 1 }, 'without asking')
  t.equal(calls(), 3)
  await new Promise((resolve) => setTimeout(resolve, 220))
  await t.rejects(http.send(get), { message: /503/ }, 'one trial')
  await t.rejects(http.send(get), { message: /repeatedly/ }, 'it failed')
  t.equal(calls(), 4)
  await new Promise((resolve) => setTimeout(resolve, 220))
  await http.send(get)
  await http.send(get)
  t.strictSame(circuits, ['open', 'half-open', 'open', 'half-open', 'closed'])
})

t.test('refusals do not open the circuit', async (t) => {
  const { http, fail, circuits } = await setUp(t, { tools: { circuit: { failures: 2, halfOpenAfter: 200 } } })
  for (const status of [400, 404, 401, 422]) {
    fail({ status })
    await t.rejects(http.send(get))
  }
  await http.send(get)
  t.strictSame(circuits, [])
})

t.test('answers that make no sense', async (t) => {
  const schema = Type.Object({ video: Type.Object({ id: Type.String() }) })
  const { http, fail } = await setUp(t)
  for (const body of ['<html>', '', '{"video":{}}', '{"video":{"id":4}}', '[]', 'null']) {
    fail({ status: 200, body })
    const error: GatewayError = await http.json(schema, get).then(
      () => t.fail('it was taken'),
      (reason) => reason,
    )
    t.equal(error.code, 'platform-protocol-error', body)
  }
  fail({ status: 200, body: { video: { id: ['secret'] } } })
  await t.rejects(http.json(schema, get), { message: 'acme answered JSON that does not fit at /video/id' })
  fail({ status: 200, body: 'x'.repeat(5 * 2 ** 20) })
  await t.rejects(http.send(get), { code: 'platform-protocol-error' }, 'larger than any answer')
})

t.test('what is no HTTP, and what is not there', async (t) => {
  const server = createTcpServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', () => socket.end('220 SMTP ready\r\n\r\n'))
  })
  const url = await listen(server)
  const { http } = await setUp(t, { tools: { retries: 0 } })
  await t.rejects(http.send({ ...get, url }), { code: 'platform-protocol-error' })
  server.close()
  await t.rejects(http.send({ ...get, url }), { code: 'platform-unavailable' })
})

t.test('connections are kept and used again', async (t) => {
  let connections = 0
  const server = createServer((_request, response) => response.end('{}'))
  server.on('connection', () => {
    connections += 1
  })
  const url = await listen(server)
  const { http } = await setUp(t)
  for (let i = 0; i < 20; i++) await http.send({ ...get, url })
  t.ok(connections <= 2, `${connections}`)
  server.close()
})

t.test('where uploads may go', async (t) => {
  const made = (baseUrl: string) =>
    createPlatformHttp({
      name: 'acme',
      baseUrl,
      authorization: permanent,
      uploadHosts: ['storage.example', '*.up.example'],
      tools: {
        log: { info() {}, warn() {}, error() {} },
        observer: { call() {}, circuit() {}, tokenRequest() {} },
        timeouts: { connect: 1, answer: 1, afterUpload: 1 },
        retries: 0,
        circuit: { failures: 1, halfOpenAfter: 1 },
      },
    })
  const vendor = made('https://api.example/v1')
  const allowed = {
    'https://api.example/put/1': 'https://api.example/put/1',
    'https://storage.example/1?sig=2': 'https://storage.example/1?sig=2',
    'https://eu.up.example:8443/1': 'https://eu.up.example:8443/1',
    '//storage.example/1': 'https://storage.example/1',
    'put/1': 'https://api.example/v1/put/1',
  }
  for (const [given, used] of Object.entries(allowed)) t.equal(vendor.uploadUrl(given), used)
  const refused = [
    '',
    'http://api.example/put/1',
    'http://storage.example/1',
    'https://up.example/1',
    'https://evilup.example/1',
    'https://storage.example.evil.example/1',
    'https://user@storage.example/1',
    'https://api.example:444/1',
    'http://127.0.0.1/',
    'https://127.0.0.1/',
    'http://[::1]/',
    'http://169.254.169.254/latest',
    'file:///etc/passwd',
    'data:,x',
    'https://',
  ]
  for (const given of refused)
    t.throws(() => vendor.uploadUrl(given), { code: 'platform-protocol-error' }, given)

  const double = made('http://127.0.0.1:4000')
  t.equal(
    double.uploadUrl('http://127.0.0.1:4001/put'),
    'http://127.0.0.1:4001/put',
    'another port of a double',
  )
  for (const given of ['http://127.0.0.2:4001/', 'http://10.0.0.1/', 'http://localhost:4001/'])
    t.throws(() => double.uploadUrl(given), { code: 'platform-protocol-error' }, given)
  const inside = made('http://10.0.0.1:4000')
  t.throws(
    () => inside.uploadUrl('http://10.0.0.1:4001/'),
    { code: 'platform-protocol-error' },
    'no loopback',
  )
})

async function listen(server: Server): Promise<string> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
}
