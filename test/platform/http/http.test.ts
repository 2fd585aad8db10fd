import { createServer } from 'node:http'
import { Readable } from 'node:stream'
import { Type } from '@sinclair/typebox'
import t from 'tap'
import type { Authorization } from '../../../src/platform/http/http.ts'
import { get, listen, post, setUp } from './http-setup.ts'

t.test('sends JSON with credentials and reads JSON', async (t) => {
  const { http, seen, outcomes } = await setUp(t)
  t.strictSame(await http.json(Type.Object({ ok: Type.Boolean() }), post), { ok: true })
  t.match(seen[0]?.headers, { authorization: 'Bearer one', 'content-type': 'application/json' })
  t.strictSame(outcomes, ['ok'])
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

t.test('a short Retry-After is waited for, a long one is passed on', async (t) => {
  const { http, fail, calls } = await setUp(t)
  fail({ status: 429, headers: { 'retry-after': '1' } })
  const started = performance.now()
  await http.send(get)
  t.ok(performance.now() - started >= 990)
  fail({ status: 503, headers: { 'retry-after': '120' } })
  await t.rejects(http.send(get), { code: 'platform-unavailable', retryAfter: 120 })
  t.equal(calls(), 3)
})

t.test('a stream whose credentials are rejected is not sent again, but they are replaced', async (t) => {
  const rejected: string[] = []
  const authorization: Authorization = {
    header: async () => `Bearer ${rejected.length}`,
    invalidate: (header) => rejected.push(header) > 0,
  }
  const { http, fail, seen } = await setUp(t, { authorization })
  const upload = () => http.send({ ...post, json: undefined, body: Readable.from([Buffer.from('abc')]) })
  fail({ status: 401 })
  await t.rejects(upload(), { code: 'platform-unauthorized' })
  t.strictSame(rejected, ['Bearer 0'])
  await upload()
  t.match(seen.at(-1)?.headers, { authorization: 'Bearer 1' })
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

t.test('a response may pause up to the timeout between two pieces', async (t) => {
  const { http, fail } = await setUp(t, { tools: { retries: 0 } })
  fail({ hang: true })
  await t.rejects(http.send(get), { code: 'platform-timeout' })
})

t.test('a slow upload does not time out; a missing response after its end does', async (t) => {
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

t.test('a stream is never sent twice, not even for an idempotent call or after a 401', async (t) => {
  const authorization = { header: async () => 'Bearer one', invalidate: () => true }
  const { http, fail, calls } = await setUp(t, { authorization })
  const upload = () => ({ ...get, method: 'PUT' as const, idempotent: true, body: Readable.from(['x']) })
  fail({ status: 503 })
  await t.rejects(http.send(upload()), { code: 'platform-unavailable' })
  fail({ status: 401 })
  await t.rejects(http.send(upload()), { code: 'platform-unauthorized' })
  t.equal(calls(), 2)
})

t.test('after a 401 the call is repeated once with another token', async (t) => {
  let number = 0
  const rejected: string[] = []
  const authorization: Authorization = {
    header: async () => `Bearer ${number}`,
    invalidate: (header) => {
      rejected.push(header)
      number += 1
      return true
    },
  }
  const { http, fail, calls, seen } = await setUp(t, { authorization })
  fail({ status: 401 })
  await http.send(post)
  t.strictSame(rejected, ['Bearer 0'])
  t.equal(seen[0]?.headers.authorization, 'Bearer 1')
  fail({ status: 401 }, 2)
  await t.rejects(http.send(get), { code: 'platform-unauthorized' })
  t.equal(calls(), 4)
})

t.test('the token is sent to the platform’s own origin only', async (t) => {
  const other = await setUp(t)
  const { http, seen } = await setUp(t)
  await http.send({ ...get, url: `${other.origin}/elsewhere` })
  t.equal(other.seen[0]?.headers.authorization, undefined)
  await http.send({ ...get, authorized: false })
  t.equal(seen[0]?.headers.authorization, undefined)
})

t.test('connections are reused', async (t) => {
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
