import { createServer as createTcpServer } from 'node:net'
import { mock } from 'node:test'
import { Type } from '@sinclair/typebox'
import Fastify from 'fastify'
import t from 'tap'
import type { GatewayError } from '../../../src/errors.ts'
import {
  errorForException,
  errorForStatus,
  isPlatformResponse,
  isTransient,
  isUnavailable,
  retryAfterOf,
} from '../../../src/platform/http/failures.ts'
import { VideoMissingError } from '../../../src/platform/platform.ts'
import { get, listen, post, setUp } from './http-setup.ts'

t.test('each status has an error code', async (t) => {
  const codes: [number, string][] = [
    [302, 'platform-protocol-error'],
    [400, 'platform-rejected'],
    [401, 'platform-unauthorized'],
    [403, 'platform-unauthorized'],
    [404, 'platform-rejected'],
    [407, 'platform-unauthorized'],
    [408, 'platform-timeout'],
    [410, 'platform-rejected'],
    [413, 'platform-rejected'],
    [429, 'platform-throttled'],
    [500, 'platform-unavailable'],
    [503, 'platform-unavailable'],
  ]
  for (const [status, code] of codes) {
    t.equal(errorForStatus('acme', status).code, code, `${status}`)
    t.equal(errorForStatus('acme', status) instanceof VideoMissingError, status === 404 || status === 410)
  }
})

t.test('the delay is read from the headers of a throttling platform', async (t) => {
  const waits = (headers: Record<string, string>, name = 'x-ratelimit-retry-after') =>
    errorForStatus('acme', 429, headers, name).retryAfter
  t.equal(waits({ 'retry-after': '7', 'x-ratelimit-retry-after': '9' }), 7)
  t.equal(waits({ 'x-ratelimit-retry-after': '9' }), 9)
  t.equal(waits({}), 1)
  t.equal(errorForStatus('acme', 429, { 'x-ratelimit-retry-after': '9' }).retryAfter, 1, 'of another vendor')
  t.equal(
    errorForStatus('acme', 503, { 'x-ratelimit-retry-after': '9' }, 'x-ratelimit-retry-after').retryAfter,
    undefined,
    'not its word',
  )
})

t.test('Retry-After is seconds or a date, up to a maximum', async (t) => {
  const cases: [string | string[] | undefined, number | undefined][] = [
    ['7', 7],
    ['0', 0],
    ['007', 7],
    ['1.2', 2],
    ['600', 600],
    ['601', 600],
    ['86400', 600],
    ['9'.repeat(400), 600],
    ['Mon, 01 Jan 2001 00:00:00 GMT', 0],
    ['Fri, 01 Jan 2100 00:00:00 GMT', 600],
    ['Friday, 01-Jan-99 00:00:00 GMT', 0],
    ['Sun Nov  6 08:49:37 1994', 0],
    ['1e+24', undefined],
    ['-5', undefined],
    ['+5', undefined],
    ['1, 2', undefined],
    ['5 s', undefined],
    ['0x10', undefined],
    ['NaN', undefined],
    ['Infinity', undefined],
    ['soon', undefined],
    ['Monday', undefined],
    ['', undefined],
    [['1', '2'], undefined],
    [undefined, undefined],
  ]
  for (const [value, seconds] of cases) {
    t.equal(retryAfterOf({ 'retry-after': value }), seconds, String(value))
    for (const status of [500, 503]) {
      t.equal(errorForStatus('acme', status, { 'retry-after': value }).retryAfter, seconds)
    }
    for (const name of ['retry-after', 'x-ratelimit-retry-after'])
      t.equal(
        errorForStatus('acme', 429, { [name]: value }, name).retryAfter,
        seconds ?? 1,
        `${name}: ${value}`,
      )
  }
  const date = new Date(Date.now() + 9_500).toUTCString()
  t.ok([9, 10].includes(retryAfterOf({ 'retry-after': date }) ?? 0))
})

t.test('a shortage in this process does not count as a failure of the platform', async (t) => {
  const shortage = (code: string) => Object.assign(new Error(`connect ${code}`), { code })
  const several = (...codes: string[]) =>
    Object.assign(new AggregateError(codes.map(shortage)), { code: codes[0] })
  const cases: [Error, boolean][] = [
    ...['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM', 'EADDRNOTAVAIL'].map((code): [Error, boolean] => [
      shortage(code),
      false,
    ]),
    ...['ECONNREFUSED', 'ECONNRESET', 'EHOSTUNREACH', 'ENETUNREACH', 'ENOTFOUND', 'EAI_AGAIN', 'EPIPE'].map(
      (code): [Error, boolean] => [shortage(code), true],
    ),
    [several('EMFILE', 'EMFILE'), false],
    [several('EADDRNOTAVAIL', 'ECONNREFUSED'), true],
    [several(), true],
  ]
  for (const [error, down] of cases) {
    const failure = errorForException('acme', error)
    t.equal(failure.code, 'platform-unavailable', error.message)
    t.equal(isUnavailable(failure), down, error.message)
    t.equal(isPlatformResponse(failure), false)
    t.equal(isTransient(failure), true)
    t.equal(failure.retryAfter, down ? undefined : 5)
  }
})

t.test('the circuit opens, lets a trial through, and closes', async (t) => {
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

t.test('an open circuit is tried again in time after the wall clock changes', async (t) => {
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

t.test('rejections do not open the circuit', async (t) => {
  const { http, fail, circuits } = await setUp(t, { tools: { circuit: { failures: 2, halfOpenAfter: 200 } } })
  for (const status of [400, 404, 401, 422]) {
    fail({ status })
    await t.rejects(http.send(get))
  }
  await http.send(get)
  t.strictSame(circuits, [])
})

t.test('an unexpected response is a platform-protocol-error', async (t) => {
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
  await t.rejects(http.json(schema, get), {
    message: 'acme returned JSON that does not match the schema at /video/id',
  })
  fail({ status: 200, body: 'x'.repeat(5 * 2 ** 20) })
  await t.rejects(http.send(get), { code: 'platform-protocol-error' }, 'larger than any answer')
})

t.test('malformed HTTP is a protocol error, a refused connection is unavailability', async (t) => {
  const broken = [
    '220 SMTP ready\r\n\r\n',
    `HTTP/1.1 200 OK\r\nX: ${'y'.repeat(60_000)}\r\n\r\n`,
    `HTTP/1.1 200 OK\r\nContent-Length: ${'z'.repeat(15_000)}\r\n\r\n`,
    `SSH-2.0-${'x'.repeat(60_000)}`,
    // Which of the two lengths counts, differs from reader to reader (RFC 9112 §6.3).
    'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n',
    'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd',
    'HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n',
    'HTTP/1.1 200 OK\r\nno colon\r\n\r\n',
    'HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n',
    'HTTP/1.1 2OO OK\r\nContent-Length: 0\r\n\r\n',
    'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n',
    // undici takes no 100 that nobody asked for (RFC 9110 §15.2.1 would have it ignored).
    'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n',
    'HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n',
  ]
  let response = ''
  const server = createTcpServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', () => socket.end(response))
  })
  const url = await listen(server)
  const { http } = await setUp(t, { tools: { retries: 0 } })
  for (const one of broken) {
    response = one
    const error = await http.send({ ...get, url }).then(
      () => undefined,
      (reason) => reason,
    )
    t.match(error, { code: 'platform-protocol-error' }, one.slice(0, 30))
    t.ok(
      loggedText(error).length < 4_000,
      `${loggedText(error).length} characters are logged, stack included`,
    )
  }
  // After the headers a length that does not match means that the connection was cut.
  for (const header of ['', 'Connection: close\r\n']) {
    response = `HTTP/1.1 200 OK\r\n${header}Content-Length: 5\r\n\r\nabc`
    await t.rejects(http.send({ ...get, url }), { code: 'platform-unavailable' }, `cut short ${header}`)
  }
  server.close()
  await t.rejects(http.send({ ...get, url }), { code: 'platform-unavailable' })
})

/** What the gateway's logger writes of an error. */
function loggedText(err: unknown): string {
  const lines: string[] = []
  Fastify({ logger: { stream: { write: (line) => void lines.push(line) } } }).log.warn({ err }, 'failed')
  return lines.join('')
}
