import { once } from 'node:events'
import { createServer as createTcpServer, type Socket } from 'node:net'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { Authorization } from '../../../src/platform/http/http.ts'
import type { PlatformRequest } from '../../../src/platform/http/request.ts'
import type { Fault } from '../double.ts'
import { huge, refused, silent, slow, type Wire } from '../wire.ts'
import { get, listen, post, setUp } from './http-setup.ts'

t.jobs = 4

const names = (wires: Record<string, unknown>) => Object.keys(wires) as Wire[]
/** Where nothing is a matter of time, a busy machine makes no difference. */
const patient = { connect: 5_000, answer: 60_000, whole: 60_000, afterUpload: 60_000 }
/** Of a call as a whole; `answer` is longer, so that nothing but the deadline ends a slow one. */
const hasty = { connect: 1_000, answer: 5_000, whole: 400, afterUpload: 400 }

const chunk: PlatformRequest = { ...get, operation: 'upload', method: 'PATCH', body: Buffer.alloc(1000) }
const stream = (): PlatformRequest => ({
  ...get,
  operation: 'upload',
  method: 'PUT',
  body: Readable.from([Buffer.alloc(1000)], { objectMode: false }),
  length: 1000,
})
const requests: Record<string, () => PlatformRequest> = {
  'a call': () => get,
  'a call that is not repeated': () => post,
  'a HEAD': () => ({ ...get, method: 'HEAD' }),
  'a chunk': () => chunk,
  'a stream': stream,
}

for (const [what, request] of Object.entries(requests)) {
  t.test(
    `${what} ends within its deadline, and counts as a failure of the platform`,
    { buffered: true },
    async (t) => {
      for (const wire of [...names(slow), ...names(silent)]) {
        // A response to HEAD has no body that could be slow.
        if (what === 'a HEAD' && !wire.includes('head') && !wire.includes('train')) continue
        const tools = { timeouts: hasty, circuit: { failures: 1, halfOpenAfter: 1_000 } }
        const { http, fail, circuits, outcomes } = await setUp(t, { tools })
        fail({ wire }, 9)
        await t.rejects(http.send(request()), { code: 'platform-timeout' }, wire)
        await until(() => circuits.length > 0)
        t.strictSame(circuits, ['open'], wire)
        t.strictSame(outcomes, ['platform-timeout'], wire)
      }
    },
  )
}

t.test('retries and the delays between them count towards the deadline', async (t) => {
  const tools = { retries: 99, timeouts: { ...hasty, answer: 100, whole: 1_500 } }
  const { http, fail, calls } = await setUp(t, { tools })
  const late = { code: 'platform-timeout', message: 'acme did not complete its response within 1.5 s' }
  fail({ hang: true }, 99)
  await t.rejects(http.send(get), late)
  t.ok(calls() > 1, `${calls()} calls`)
  fail({ status: 503, headers: { 'retry-after': '5' } })
  await t.rejects(http.send(get), late, 'in the wait')
})

t.test('waiting for a token counts towards the deadline, for streams as well', async (t) => {
  const authorization: Authorization = { header: () => new Promise(() => {}), invalidate: () => true }
  const { http, calls } = await setUp(t, { authorization, tools: { timeouts: hasty } })
  for (const request of [get, post, chunk, stream()])
    await t.rejects(http.send(request), { code: 'platform-timeout' })
  const controller = new AbortController()
  const reason = new Error('enough')
  const call = http.send({ ...get, signal: controller.signal })
  controller.abort(reason)
  await t.rejects(call, reason, 'nor does its caller have to wait for it')
  t.equal(calls(), 0)
})

t.test('sending a stream has no deadline, with 1xx responses in between', async (t) => {
  const server = createTcpServer((socket) => {
    socket.on('error', () => {})
    const hints = setInterval(() => socket.write('HTTP/1.1 103 Early Hints\r\n\r\n'), 20)
    let got = ''
    socket
      .on('close', () => clearInterval(hints))
      .on('data', (bytes) => {
        got += bytes
        if (!got.endsWith('end')) return
        clearInterval(hints)
        socket.end('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}')
      })
  })
  const url = await listenOn(t, server)
  const { http } = await setUp(t, { tools: { timeouts: { ...hasty, afterUpload: 10_000 } } })
  async function* slowly() {
    for (let i = 0; i < 10; i++) {
      await sleep(80)
      yield Buffer.from('piece')
    }
    yield Buffer.from('end')
  }
  const body = Readable.from(slowly(), { objectMode: false })
  t.match(await http.send({ ...stream(), url, body, length: 53 }), { status: 200 })
})

t.test('a response that begins before the content was sent has the usual deadline', async (t) => {
  for (const [first, code] of [
    ['HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{', 'platform-timeout'],
    ['HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\n{', 'platform-rejected'],
    ['HTTP/1.1 100 Continue\r\n\r\n', 'platform-protocol-error'],
    [
      'HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n',
      'platform-protocol-error',
    ],
    ['HTTP/1.1 204 No Content\r\n\r\n', undefined],
  ] as const) {
    const server = createTcpServer((socket) => {
      socket.on('error', () => {})
      socket.write(first)
      socket.resume()
    })
    const url = await listenOn(t, server)
    const { http } = await setUp(t, { tools: { timeouts: { ...hasty, afterUpload: 1_500 } } })
    async function* pieces() {
      for (let i = 0; i < 5; i++) {
        await sleep(20)
        yield Buffer.alloc(10)
      }
    }
    const body = Readable.from(pieces(), { objectMode: false })
    const sending = http.send({ ...stream(), url, body, length: 50 })
    if (code) await t.rejects(sending, { code }, first)
    else await sending.catch((error) => t.match(error, { code: 'platform-unavailable' }))
  }
})

t.test('a connection that hangs or speaks another protocol fails with its error', async (t) => {
  const mute = await listenOn(
    t,
    createTcpServer((socket) => void socket.on('error', () => {})),
  )
  const garbage = await listenOn(
    t,
    createTcpServer((socket) => {
      socket.on('error', () => {})
      socket.write('\0\0\0\x18 no TLS, no HTTP \r\n\r\n'.repeat(10))
    }),
  )
  const cases: [string, string][] = [
    [mute.replace('http:', 'https:'), 'platform-timeout'],
    [garbage.replace('http:', 'https:'), 'platform-unavailable'],
    [garbage, 'platform-protocol-error'],
  ]
  for (const [url, code] of cases) {
    const timeouts = { ...patient, ...(code === 'platform-timeout' && { connect: 300 }) }
    const { http } = await setUp(t, { tools: { retries: 0, timeouts } })
    for (const request of [get, chunk, stream()])
      await t.rejects(http.send({ ...request, url }), { code }, url)
  }
})

t.test('every response has the same size limit', async (t) => {
  const { http, fail } = await setUp(t, { tools: { retries: 0, timeouts: patient } })
  for (const request of Object.values(requests)) {
    for (const wire of names(huge)) {
      if (request().method === 'HEAD' && !wire.includes('head')) continue
      fail({ wire })
      await t.rejects(
        http.send(request()),
        { code: 'platform-protocol-error' },
        `${request().method} ${wire}`,
      )
    }
  }
})

t.test('the status of a rejection counts even if its body fails', async (t) => {
  const { http, fail } = await setUp(t, { tools: { retries: 0, timeouts: patient } })
  const huge: Fault = { status: 503, body: 'x'.repeat(5 * 2 ** 20) }
  for (const fault of [...names(refused).map((wire): Fault => ({ wire })), huge])
    for (const request of [get, post, chunk, stream()]) {
      fail(fault)
      await t.rejects(
        http.send(request),
        { code: 'platform-unavailable', message: /503/ },
        fault.wire ?? 'large',
      )
    }
  t.match(await http.send(get), { status: 200 })
})

async function until(done: () => boolean) {
  for (let tries = 0; !done() && tries < 500; tries++) await sleep(10)
}

/** Connections are cut at the end of the test. @returns its URL */
async function listenOn(t: Test, server: ReturnType<typeof createTcpServer>): Promise<string> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket) => sockets.add(socket))
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy()
    server.close()
    await once(server, 'close')
  })
  return listen(server as never)
}
