import { createServer as createTcpServer } from 'node:net'
import { mock } from 'node:test'
import { Type } from '@sinclair/typebox'
import t from 'tap'
import type { GatewayError } from '../../../src/errors.ts'
import { refusalOf, retryAfterOf } from '../../../src/platform/http/failures.ts'
import { VideoMissingError } from '../../../src/platform/platform.ts'
import { get, listen, post, setUp } from './http-setup.ts'

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

t.test('how long to wait, where a platform throttles', async (t) => {
  const waits = (headers: Record<string, string>) => refusalOf('acme', 429, headers).retryAfter
  t.equal(waits({ 'retry-after': '7', 'x-ratelimit-retry-after': '9' }), 7)
  t.equal(waits({ 'x-ratelimit-retry-after': '9' }), 9)
  t.equal(waits({}), 1)
  t.equal(refusalOf('acme', 503, { 'x-ratelimit-retry-after': '9' }).retryAfter, undefined, 'not its word')
})

t.test('Retry-After has two forms', async (t) => {
  t.equal(retryAfterOf({ 'retry-after': '7' }), 7)
  const date = new Date(Date.now() + 9_500).toUTCString()
  t.ok([9, 10].includes(retryAfterOf({ 'retry-after': date }) ?? 0))
  t.equal(retryAfterOf({ 'retry-after': 'Mon, 01 Jan 2001 00:00:00 GMT' }), 0)
  t.equal(retryAfterOf({ 'retry-after': 'soon' }), undefined)
  t.equal(retryAfterOf({}), undefined)
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

t.test('an open circuit is tried again in time, whatever becomes of the date', async (t) => {
  t.teardown(() => mock.timers.reset())
  for (const hours of [-1, 1]) {
    const tools = { retries: 0, circuit: { failures: 1, halfOpenAfter: 200 } }
    const { http, fail, calls, circuits } = await setUp(t, { tools })
    fail({ status: 503 })
    await t.rejects(http.send(get), { code: 'platform-unavailable' })
    mock.timers.enable({ apis: ['Date'], now: Date.now() + hours * 3_600_000 })
    await t.rejects(http.send(get), { code: 'platform-unavailable' })
    t.equal(calls(), 1, 'not before')
    await new Promise((resolve) => setTimeout(resolve, 220))
    await http.send(get)
    mock.timers.reset()
    t.strictSame(circuits, ['open', 'half-open', 'closed'])
  }
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
