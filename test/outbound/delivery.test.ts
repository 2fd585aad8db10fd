import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createServer as createHttps } from 'node:https'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { gzipSync } from 'node:zlib'
import { Webhook } from 'standardwebhooks'
import t, { type Test } from 'tap'
import { deriveWebhookSecrets, generateGatewaySecret } from '../../src/auth/gateway-secret.ts'
import { createAddressRules } from '../../src/outbound/addresses.ts'
import { type DeliveryResult, deliver, nextDeliveryIn } from '../../src/outbound/delivery.ts'
import { createGuardedAgent } from '../../src/outbound/guard.ts'

const secrets = deriveWebhookSecrets([generateGatewaySecret()], 'endpoint', [2, 1])
const body = JSON.stringify({ id: 'evt-1', type: 'video.ready', data: { title: 'Öffnung' } })
const rules = { addresses: createAddressRules(), ports: new Set([443]), allowsLoopback: true }

const dispatcher = createGuardedAgent(rules)
t.teardown(() => dispatcher.destroy())

const send = (url: string, timeout = 1_500, signal = new AbortController().signal, agent = dispatcher) =>
  deliver(
    { id: 'evt-1', url, body, secrets },
    { dispatcher: agent, now: Date.now(), userAgent: 'video-gateway/test', signal, timeout },
  )

async function listen(t: Test, server: Server): Promise<number> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket) => sockets.add(socket.on('error', () => {})))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

/** An endpoint that writes to the socket what it likes, once the request is complete. */
const endpoint = (t: Test, behave: (socket: Socket, received: string) => void) =>
  listen(
    t,
    createServer((socket) => {
      let received = ''
      socket.on('data', (chunk) => {
        const before = received.includes(body)
        received += chunk.toString()
        if (!before && received.includes(body)) behave(socket, received)
      })
    }),
  )

const ended =
  (head: string, content: string | Buffer = '') =>
  (socket: Socket) => {
    socket.write(`HTTP/1.1 ${head}\r\nconnection: close\r\n\r\n`)
    socket.end(content)
  }

/** Writes again and again until the other side is gone. */
const drip = (first: string, again: string, ms: number) => (socket: Socket) => {
  socket.write(first)
  const timer = setInterval(() => socket.write(again), ms)
  socket.once('close', () => clearInterval(timer))
}

interface Case {
  name: string
  behave(socket: Socket): void
  expected: Partial<DeliveryResult>
}

const delivered = { failure: undefined }
const cases: Case[] = [
  { name: '204', behave: ended('204 No Content'), expected: { ...delivered, status: 204, response: null } },
  {
    name: '200 with text',
    behave: ended('200 OK', 'thank\0 you\r\n\x1b[2J'),
    expected: { ...delivered, response: 'thank  you [2J' },
  },
  { name: '202 without a reason', behave: ended('202'), expected: { ...delivered, status: 202 } },
  {
    name: 'bytes that are no text',
    behave: ended('200 OK', Buffer.from([0xff, 0xfe, 0x41])),
    expected: { response: '\uFFFD\uFFFDA' },
  },
  {
    name: '10 MB',
    behave: ended('200 OK', Buffer.alloc(10_000_000, 'a')),
    expected: { ...delivered, response: 'a'.repeat(1_024) },
  },
  {
    name: 'a gzip bomb',
    behave: ended('200 OK\r\ncontent-encoding: gzip', gzipSync(Buffer.alloc(50_000_000))),
    expected: { ...delivered, response: null },
  },
  {
    name: 'a body that drips for ever',
    behave: drip('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n', '1\r\na\r\n', 50),
    expected: { ...delivered, status: 200 },
  },
  {
    name: 'a body that does not come',
    behave: (socket) => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n'),
    expected: { ...delivered, response: null },
  },
  {
    name: 'a body that breaks',
    behave: ended('200 OK\r\ncontent-length: 900', 'begun'),
    expected: { ...delivered, response: 'begun' },
  },
  {
    name: '301',
    behave: ended('301 Moved\r\nlocation: http://169.254.169.254/latest/meta-data/'),
    expected: { failure: 'redirect', status: 301 },
  },
  { name: '307', behave: ended('307 Moved\r\nlocation: /elsewhere'), expected: { failure: 'redirect' } },
  { name: '304', behave: ended('304 Not Modified'), expected: { failure: 'redirect' } },
  {
    name: '400',
    behave: ended('400 Bad Request', 'no'),
    expected: { failure: 'status', status: 400, response: 'no' },
  },
  { name: '410', behave: ended('410 Gone'), expected: { failure: 'gone' } },
  { name: '500', behave: ended('500 Oops'), expected: { failure: 'status', retryAfter: undefined } },
  {
    name: '429 for a minute',
    behave: ended('429 Later\r\nretry-after: 60'),
    expected: { failure: 'status', retryAfter: 60_000 },
  },
  {
    name: '503 for a year',
    behave: ended('503 Later\r\nretry-after: 31536000'),
    expected: { retryAfter: 86_400_000 },
  },
  {
    name: '503 until 2100',
    behave: ended('503 Later\r\nretry-after: Fri, 01 Jan 2100 00:00:00 GMT'),
    expected: { retryAfter: 86_400_000 },
  },
  {
    name: '503 until 1970',
    behave: ended('503 Later\r\nretry-after: Thu, 01 Jan 1970 00:00:00 GMT'),
    expected: { retryAfter: 0 },
  },
  {
    name: '503 until nonsense',
    behave: ended('503 Later\r\nretry-after: soon'),
    expected: { retryAfter: undefined },
  },
  { name: '999', behave: ended('999 What'), expected: { failure: 'status', status: 999 } },
  { name: 'nothing', behave: () => {}, expected: { failure: 'timeout', status: null } },
  {
    name: 'headers that drip',
    behave: drip('HTTP/1.1 200 OK\r\n', 'a: b\r\n', 50),
    expected: { failure: 'timeout' },
  },
  {
    name: 'a header without end',
    behave: drip('HTTP/1.1 200 OK\r\na: ', 'a'.repeat(5_000), 5),
    expected: { failure: 'malformed' },
  },
  {
    name: 'early hints for ever',
    behave: drip('', 'HTTP/1.1 103 Early Hints\r\n\r\n', 50),
    expected: { failure: 'timeout' },
  },
  {
    name: 'a change of protocol',
    behave: ended('101 Switching Protocols\r\nupgrade: x'),
    expected: { status: null },
  },
  { name: 'an end', behave: (socket) => socket.end(), expected: { failure: 'connection' } },
  { name: 'a reset', behave: (socket) => void socket.resetAndDestroy(), expected: { failure: 'connection' } },
  {
    name: 'SSH',
    behave: (socket) => socket.end('SSH-2.0-OpenSSH_9.6\r\n'),
    expected: { failure: 'malformed' },
  },
  {
    name: 'two lengths',
    behave: ended('200 OK\r\ncontent-length: 1\r\ncontent-length: 2', 'ab'),
    expected: { failure: 'malformed' },
  },
]

t.test('a delivery to any kind of endpoint ends in time', async (t) => {
  t.jobs = 8
  for (const { name, behave, expected } of cases)
    t.test(name, async (t) => {
      const port = await endpoint(t, behave)
      const result = await send(`http://localhost:${port}/hook`)
      t.match(result, expected)
      t.ok((result.response ?? '').length <= 1_024)
    })
})

t.test('the library of Standard Webhooks verifies a delivery', async (t) => {
  let received = ''
  const port = await endpoint(t, (socket, text) => {
    received = text
    ended('204 No Content')(socket)
  })
  t.match(await send(`http://127.0.0.1:${port}/hook?a=b`), delivered)
  const [head = '', content = ''] = received.split('\r\n\r\n')
  const [line, ...fields] = head.split('\r\n')
  t.equal(line, 'POST /hook?a=b HTTP/1.1')
  const headers = Object.fromEntries(fields.map((field) => field.split(/: (.*)/, 2)))
  t.match(headers, { 'content-type': 'application/json', 'user-agent': 'video-gateway/test' })
  for (const secret of secrets) t.strictSame(new Webhook(secret).verify(content, headers), JSON.parse(body))
})

t.test('an unreachable endpoint has its own outcome', async (t) => {
  const port = await listen(t, createServer())
  const closed = createServer().listen(0, '127.0.0.1')
  await once(closed, 'listening')
  const free = (closed.address() as AddressInfo).port
  closed.close()
  await once(closed, 'close')
  t.match(await send(`http://127.0.0.1:${free}/`), { failure: 'connection' })
  t.match(await send('https://169.254.169.254/'), { failure: 'not-allowed' })
  t.match(await send('http://example.com/'), { failure: 'not-allowed' })
  const rebinding = createGuardedAgent(rules, (_host, _options, done) =>
    done(null, [{ address: '10.0.0.1', family: 4 }] as never),
  )
  const unknown = createGuardedAgent(rules, (_host, _options, done) =>
    done(Object.assign(new Error('unknown'), { code: 'ENOTFOUND' }), []),
  )
  t.teardown(() => Promise.all([rebinding.destroy(), unknown.destroy()]))
  const never = new AbortController().signal
  t.match(await send('https://receiver.example/', 1_500, never, rebinding), { failure: 'not-allowed' })
  t.match(await send('https://receiver.example/', 1_500, never, unknown), { failure: 'name' })
  const stop = new AbortController()
  const sent = send(`http://127.0.0.1:${port}/`, 10_000, stop.signal)
  setTimeout(() => stop.abort(), 50)
  t.match(await sent, { failure: 'connection' }, 'the process ends')
  t.match(await send(`https://127.0.0.1:${port}/`, 300), { failure: 'timeout' }, 'TLS that does not begin')
})

const noOpenssl = spawnSync('openssl', ['version']).error ? 'openssl is not installed' : false
t.test('the certificate of another host is rejected', { skip: noOpenssl }, async (t) => {
  const { stdout } = spawnSync('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1'],
    ...['-subj', '/CN=other.example', '-keyout', '-', '-out', '-'],
  ])
  let requests = 0
  const server = createHttps({ key: stdout, cert: stdout }, (_request, response) => {
    requests += 1
    response.end()
  })
  const port = await listen(t, server)
  t.match(await send(`https://localhost:${port}/`), { failure: 'certificate' })
  t.equal(requests, 0, 'it gets nothing')
  const plain = await endpoint(t, () => {})
  t.match(await send(`https://localhost:${plain}/`, 800), { status: null }, 'no TLS at all')
})

t.test('pauses between attempts grow, and attempts end after three days', async (t) => {
  const plain = Array.from({ length: 10 }, (_, index) => nextDeliveryIn(index + 1, undefined, 0))
  const [s, m, h] = [1_000, 60_000, 3_600_000]
  t.strictSame(plain, [5 * s, 5 * m, 30 * m, 2 * h, 5 * h, 10 * h, 14 * h, 20 * h, 24 * h, undefined])
  t.equal(nextDeliveryIn(1, undefined, 0.999), 5_999)
  t.equal(nextDeliveryIn(1, 60_000, 0.5), 60_000, 'as the endpoint asked')
  t.equal(nextDeliveryIn(4, 60_000, 0), 2 * h, 'not sooner than planned')
  t.equal(nextDeliveryIn(10, 60_000), undefined)
})
