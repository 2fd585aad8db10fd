import { readFileSync } from 'node:fs'
import { createServer as createTcpServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { createServer as createTlsServer } from 'node:tls'
import { gzipSync } from 'node:zlib'
import t from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { createAuthority, noOpenssl } from '../support/certificates.ts'
import { gatewaySecret } from '../support/endpoints.ts'
import { type Json, temporaryDirectory } from '../support/gateway.ts'
import { startNameServer } from '../support/name-server.ts'
import { startProcess } from '../support/process.ts'
import { bodyReader, listen } from '../support/receiver.ts'

/** What one hostile endpoint does, and what becomes of the deliveries to it. */
interface Case {
  /** The first label of its name. */
  name: string
  /** Writes to the socket, once a request has come. Without it nothing listens there. */
  behave?(socket: Socket): void
  /** The fields of a delivery after its first attempt. */
  expected: { failure: string | RegExp | null; responseStatus?: number | null; response?: RegExp }
  /** The address that the name stands for, by the number of queries before; undefined: no response. */
  address?(queries: number): string | undefined
}

/** Where receivers may be; this machine itself may not be called. */
const outside = '127.0.0.2'
const inside = '127.0.0.1'
/** Time for an exchange, in ms. */
const exchange = 3_000
const videos = 20

const ended =
  (head: string, content: string | Buffer = '') =>
  (socket: Socket) => {
    socket.write(`HTTP/1.1 ${head}\r\nconnection: close\r\n\r\n`)
    socket.end(content)
  }
/** Writes again and again until the other side is gone. */
const drip =
  (first: string, again: string, ms: number) =>
  (socket: Socket): void => {
    socket.write(first)
    const timer = setInterval(() => socket.write(again), ms)
    socket.once('close', () => clearInterval(timer))
  }
/** Writes as fast as the other side reads. */
const flood = (first: string, again: string) => (socket: Socket) => {
  socket.write(first)
  const more = () => {
    while (!socket.destroyed && socket.write(again));
    if (!socket.destroyed) socket.once('drain', more)
  }
  more()
}
const delivered = { failure: null }
const bomb = gzipSync(Buffer.alloc(50_000_000))

const cases: Case[] = [
  { name: 'silent', behave: () => {}, expected: { failure: 'timeout' } },
  {
    name: 'drips-header',
    behave: drip('HTTP/1.1 200 OK\r\n', 'a: b\r\n', 100),
    expected: { failure: 'timeout' },
  },
  { name: 'drips-bytes', behave: drip('HTTP', '/', 100), expected: { failure: 'malformed' } },
  {
    name: 'drips-body',
    behave: drip('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n', '1\r\na\r\n', 100),
    expected: { ...delivered, responseStatus: 200, response: /^a{1,20}$/ },
  },
  {
    name: 'early-hints',
    behave: drip('', 'HTTP/1.1 103 Early Hints\r\n\r\n', 100),
    expected: { failure: 'timeout' },
  },
  {
    name: 'endless-headers',
    behave: flood('HTTP/1.1 200 OK\r\n', `x-${'a'.repeat(1_000)}: ${'b'.repeat(1_000)}\r\n`),
    expected: { failure: 'malformed' },
  },
  {
    name: 'endless-header',
    behave: flood('HTTP/1.1 200 OK\r\nx: ', 'a'.repeat(10_000)),
    expected: { failure: 'malformed' },
  },
  {
    name: 'endless-body',
    behave: flood('HTTP/1.1 200 OK\r\n\r\n', 'a'.repeat(65_536)),
    expected: { ...delivered, response: /^a{1024}$/ },
  },
  {
    name: 'ten-megabytes',
    behave: ended('500 Oops\r\ncontent-length: 10000000', Buffer.alloc(10_000_000, 'a')),
    expected: { failure: 'status', responseStatus: 500, response: /^a{1024}$/ },
  },
  {
    name: 'gzip-bomb',
    behave: ended('200 OK\r\ncontent-encoding: gzip', bomb),
    expected: { ...delivered, responseStatus: 200 },
  },
  {
    name: 'redirects-to-metadata',
    behave: ended('307 Moved\r\nlocation: http://169.254.169.254/latest/meta-data/'),
    expected: { failure: 'redirect', responseStatus: 307 },
  },
  {
    name: 'redirects-inside',
    behave: ended(`308 Moved\r\nlocation: https://${inside}/`),
    expected: { failure: 'redirect', responseStatus: 308 },
  },
  { name: 'closes', behave: (socket) => socket.end(), expected: { failure: 'connection' } },
  {
    name: 'resets',
    behave: (socket) => void socket.destroy(),
    expected: { failure: 'connection' },
  },
  {
    name: 'ssh',
    behave: (socket) => socket.end('SSH-2.0-OpenSSH_9.6\r\n'),
    expected: { failure: 'malformed' },
  },
  {
    name: 'two-lengths',
    behave: ended('200 OK\r\ncontent-length: 1\r\ncontent-length: 2', 'ab'),
    expected: { failure: 'malformed' },
  },
  { name: 'gone', behave: ended('410 Gone'), expected: { failure: 'gone', responseStatus: 410 } },
  {
    name: 'throttles',
    behave: ended('429 Later\r\nretry-after: 3600'),
    expected: { failure: 'status', responseStatus: 429 },
  },
  { name: 'nothing-there', expected: { failure: 'connection' } },
  { name: 'other-certificate', behave: ended('204 No Content'), expected: { failure: 'certificate' } },
  { name: 'no-tls', behave: ended('204 No Content'), expected: { failure: 'certificate' } },
  // Of a look-up and an exchange either may end first.
  { name: 'unknown-name', address: () => '', expected: { failure: /^(name|timeout)$/ } },
  { name: 'silent-name', address: () => undefined, expected: { failure: /^(name|timeout)$/ } },
  { name: 'metadata', address: () => '169.254.169.254', expected: { failure: 'not-allowed' } },
  { name: 'local', address: () => inside, expected: { failure: 'not-allowed' } },
]

const skip = noOpenssl || (process.platform === 'linux' ? false : 'reads /proc')
t.test('hostile endpoints affect only their own deliveries', { skip, timeout: 90_000 }, async (t) => {
  const directory = await temporaryDirectory(t)
  const authority = createAuthority(directory)
  const trusted = authority.issue('*.receiver.test')
  const stranger = authority.issue('*.other.test')
  const rest = cases.filter(({ address }) => address)
  const { address: nameServer } = await startNameServer(t, (name, count) => {
    const [label] = name.split('.')
    if (!name.endsWith('.receiver.test')) return []
    // The first delivery goes where it may, and the next ones would go to this machine.
    if (label === 'rebinding') return [count === 0 ? outside : inside]
    const found = rest.find((one) => one.name === label)
    const address = found ? found.address?.(count) : outside
    return address === undefined ? undefined : address === '' ? [] : [address]
  })

  const ports: number[] = []
  async function open(name: string, behave: (socket: Socket) => void): Promise<string> {
    const onSocket = bodyReader(behave)
    const certificate = name === 'other-certificate' ? stranger : trusted
    const server =
      name === 'no-tls'
        ? createTcpServer((socket) => socket.once('data', () => behave(socket)))
        : createTlsServer(certificate, onSocket)
    // A handshake that the gateway gives up.
    server.on('tlsClientError', () => {})
    const { port } = await listen(t, server, outside)
    ports.push(port)
    return `https://${name}.receiver.test:${port}/hook?token=t0ps3cret`
  }
  const urls = await Promise.all(cases.map(({ name, behave = () => {} }) => open(name, behave)))
  const unused = cases.findIndex(({ name }) => name === 'nothing-there')
  ports.push(9)
  urls[unused] = 'https://nothing-there.receiver.test:9/hook'
  const good = new Map<string, number>()
  const goodUrl = await open('good', (socket) => {
    socket.write('HTTP/1.1 204 No Content\r\n\r\n')
  })
  let rebound = 0
  const reboundUrl = await open('rebinding', (socket) => {
    rebound += 1
    ended('204 No Content')(socket)
  })
  let insideConnections = 0
  const internal = createTcpServer((socket) => {
    insideConnections += 1
    socket.destroy()
  })
  await listen(t, internal, inside, Number(new URL(reboundUrl).port))

  const sandbox = await startSandbox({ knobs: { discard: true } })
  t.teardown(() => sandbox.close())
  const gateway = await startProcess(
    t,
    {
      NODE_ENV: 'production',
      SANDBOX_BASE_URL: sandbox.url,
      DATABASE_URL: `sqlite:${directory}/gateway.db`,
      GATEWAY_SECRET: gatewaySecret,
      NODE_EXTRA_CA_CERTS: authority.file,
      NAME_SERVER: nameServer,
      WEBHOOK_NETWORKS: outside,
      WEBHOOK_PORTS: ports.join(','),
      // Longer than a busy machine keeps a creation waiting.
      CLAIM: '20000',
      DELIVERIES: JSON.stringify({ exchange, retry: 60_000, interval: 200 }),
    },
    'test/support/crash-gateway.ts',
  )
  const add = async (url: string): Promise<string> => {
    const { status, body } = await gateway.call('POST', '/v1/webhooks', { url, events: ['video.created'] })
    if (status !== 201) throw new Error(JSON.stringify(body))
    return body.id
  }
  const [goodId, reboundId] = [await add(goodUrl), await add(reboundUrl)]
  const ids = await Promise.all(urls.map(add))
  const deliveriesOf = async (id: string): Promise<Json[]> =>
    (await gateway.call('GET', `/v1/webhooks/${id}/deliveries?limit=200`)).body.items

  const memory = () =>
    Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${gateway.child.pid}/status`, 'utf8'))![1]) / 1024
  const before = memory()
  const begun = performance.now()
  const created = await Promise.all(
    Array.from({ length: videos }, async (_, index) => {
      const { status, body } = await gateway.call('POST', '/v1/videos', { title: `${index}` })
      t.equal(status, 201, body.detail)
      return body.id as string
    }),
  )

  let peak = 0
  const untilItems = async (what: string, id: string, isDone: (items: Json[]) => boolean) => {
    for (const deadline = Date.now() + 40_000; ; await sleep(50)) {
      const items = await deliveriesOf(id)
      if (isDone(items)) return
      peak = Math.max(peak, memory())
      if (Date.now() > deadline) throw new Error(`${what}: ${JSON.stringify(items)} ${gateway.output()}`)
    }
  }
  await untilItems('good', goodId, (items) => {
    for (const { eventId, status } of items)
      if (status === 'delivered' && !good.has(eventId)) good.set(eventId, performance.now() - begun)
    return good.size === created.length
  })
  const slowest = Math.max(...good.values())
  t.comment(`the good endpoint had ${videos} events after ${Math.round(slowest)} ms`)
  const stuck = await deliveriesOf(ids[0]!)
  t.ok(
    stuck.some(({ failure }) => failure === null),
    'while the silent one still held its first deliveries, or had only begun',
  )

  for (const [index, { name, expected }] of cases.entries()) {
    const { response, ...fields } = expected
    let first: Json
    await untilItems(name, ids[index]!, (items) => {
      first = items.find(({ failure, responseStatus }) => failure !== null || responseStatus !== null)
      return first !== undefined
    })
    t.match(first, { ...fields, ...(response && { response }) }, name)
    t.ok((first.response ?? '').length <= 1_024, `${name}: a kilobyte at most`)
    if (name === 'throttles')
      t.ok(Date.parse(first.nextAttemptAt) - Date.now() > 3_000_000, 'comes again when it was asked to')
  }
  const { body: gone } = await gateway.call(
    'GET',
    `/v1/webhooks/${ids[cases.findIndex(({ name }) => name === 'gone')]}`,
  )
  t.match(gone, { enabled: false, disabledReason: 'gone' })

  await untilItems('rebinding', reboundId, (items) =>
    items.every(({ status, failure }) => status === 'delivered' || failure !== null),
  )
  const outcomes = (await deliveriesOf(reboundId)).map(({ failure }) => failure)
  t.ok(rebound >= 1, 'it was called where it may be')
  t.ok(outcomes.includes('not-allowed'), 'and then it is no longer allowed')
  t.equal(insideConnections, 0, 'this machine was never called')

  t.comment(`resident memory ${Math.round(before)} MiB, at most ${Math.round(peak)} MiB`)
  t.ok(peak - before < 150, `${Math.round(peak - before)} MiB more`)
  const metrics: string = (await gateway.call('GET', '/metrics')).body
  const count = (le: string) =>
    [...metrics.matchAll(/delivery_duration_seconds_bucket\{le="([^"]+)",outcome="[^"]+"\} (\d+)/g)]
      .filter(([, bound]) => bound === le)
      .reduce((sum, [, , value]) => sum + Number(value), 0)
  t.ok(count('+Inf') > cases.length)
  t.equal(count('15'), count('+Inf'), 'each attempt had an end')
  t.notMatch(gateway.output(), 't0ps3cret')
  t.notMatch(metrics, 't0ps3cret')
  t.equal(await gateway.kill('SIGTERM'), 0)
})
