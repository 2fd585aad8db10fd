import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import type { PlatformRequest, PlatformResponse } from '../../../src/platform/http/request.ts'
import { get, listen, paced, setUp } from './http-setup.ts'

t.jobs = 2

/** Where nothing is a matter of time, a busy machine makes no difference. */
const timeouts = { connect: 10_000, answer: 30_000, whole: 30_000, afterUpload: 30_000 }
const MiB = 2 ** 20

type Close = (socket: Socket, response: string) => void
/** How a server closes that has not read the request to its end. */
const closes: Record<string, Close> = {
  'half-closes and reads nothing': (socket, response) => socket.end(response),
  'closes with bytes unread': (socket, response) => socket.write(response, () => socket.destroy()),
  resets: (socket, response) => socket.write(response, () => socket.resetAndDestroy()),
  'resets a moment later': (socket, response) => {
    socket.write(response)
    setTimeout(() => socket.resetAndDestroy(), 20)
  },
  'half-closes, then resets': (socket, response) => {
    socket.end(response)
    setTimeout(() => socket.resetAndDestroy(), 20)
  },
  'keeps the connection open': (socket, response) => void socket.write(response),
}

const responses: Record<string, string> = {
  'with a length': 'content-length: 2\r\n\r\n{}',
  chunked: 'transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n',
  closing: 'connection: close\r\ncontent-length: 2\r\n\r\n{}',
  'without a body': 'content-length: 0\r\n\r\n',
  'until the end of the connection': '\r\n{}',
  'cut in its body': 'content-length: 20\r\n\r\n{}',
}

const bodies: Record<string, () => Partial<PlatformRequest>> = {
  'a stream of 30 MiB': () => ({ body: paced(30 * MiB), length: 30 * MiB }),
  'a stream of unknown length': () => ({ body: paced(30 * MiB) }),
  'a short stream': () => ({ body: paced(300_000), length: 300_000 }),
  'a chunk of 16 MiB': () => ({ body: Buffer.alloc(16 * MiB) }),
  'a short chunk': () => ({ body: Buffer.alloc(300_000) }),
}

const put = (body: Partial<PlatformRequest>): PlatformRequest => ({
  ...get,
  operation: 'upload',
  method: 'PUT',
  ...body,
})

for (const [how, close] of Object.entries(closes)) {
  t.test(`a platform that rejects early and ${how}`, { buffered: true }, async (t) => {
    const peer = await startPeer(t)
    for (const afterBytes of [0, MiB])
      for (const [framing, rest] of Object.entries(responses))
        for (const [what, body] of Object.entries(bodies)) {
          if (what.includes('short') && afterBytes > 0) continue
          // A connection that was kept would meet what becomes of it later.
          const { http } = await setUp(t, { tools: { retries: 0, timeouts } })
          peer.next = { afterBytes, response: `HTTP/1.1 413 Too Large\r\n${rest}`, close }
          const sending = http.send({ ...put(body()), url: peer.url })
          const rejected = { code: 'platform-rejected', message: 'acme returned 413' }
          await t.rejects(sending, rejected, `${what}, response ${framing}, after ${afterBytes} bytes`)
          await http.close()
        }
  })
}

t.test('each status of an early rejection has its error', { buffered: true }, async (t) => {
  const peer = await startPeer(t)
  const { http } = await setUp(t, { tools: { retries: 0, timeouts } })
  const cases: [string, object][] = [
    ['308 Permanent Redirect\r\nlocation: /elsewhere', { code: 'platform-protocol-error' }],
    ['400 Bad Request', { code: 'platform-rejected' }],
    ['401 Unauthorized', { code: 'platform-unauthorized' }],
    ['403 Forbidden', { code: 'platform-unauthorized' }],
    ['404 Not Found', { message: /^acme does not have this video/ }],
    ['409 Conflict', { code: 'platform-rejected' }],
    ['422 Unprocessable', { code: 'platform-rejected' }],
    ['429 Too Many Requests\r\nretry-after: 7', { code: 'platform-throttled', retryAfter: 7 }],
    ['503 Service Unavailable\r\nretry-after: 7', { code: 'platform-unavailable', retryAfter: 7 }],
  ]
  for (const [head, error] of cases)
    for (const [what, body] of Object.entries(bodies)) {
      const response = `HTTP/1.1 ${head}\r\ncontent-length: 20\r\n\r\n{}`
      peer.next = { afterBytes: 0, response, close: closes.resets as Close }
      const failure = await http.send({ ...put(body()), url: peer.url }).catch((error) => error)
      t.match(failure, error, `${what}: ${head}`)
      peer.next = { afterBytes: 0, response, close: closes.resets as Close }
      const status = Number(head.slice(0, 3))
      const answer: PlatformResponse = await http.send({ ...put(body()), url: peer.url, accept: [status] })
      t.equal(answer.status, status, `${what}: ${status} accepted`)
    }
})

t.test('an early rejection is read on a reused connection; the next chunk uses another one', async (t) => {
  const peer = await startPeer(t)
  const { http } = await setUp(t, { tools: { retries: 0, timeouts } })
  const chunk = () => put({ body: Buffer.alloc(16 * MiB) })
  for (const [how, close] of Object.entries(closes)) {
    t.match(await http.send({ ...chunk(), url: peer.url }), { status: 200 }, 'a chunk that is taken')
    peer.next = { afterBytes: 0, response: 'HTTP/1.1 429 Slow down\r\ncontent-length: 2\r\n\r\n{}', close }
    await t.rejects(http.send({ ...chunk(), url: peer.url }), { code: 'platform-throttled' }, how)
    t.match(await http.send({ ...chunk(), url: peer.url }), { status: 200 }, 'the repetition')
  }
})

t.test('a reset without complete response headers counts as no response', async (t) => {
  const peer = await startPeer(t)
  const { http } = await setUp(t, { tools: { retries: 0, timeouts } })
  for (const response of ['', 'HTTP/1.1 413 Too Lar', 'HTTP/1.1 413 Too Large\r\ncontent-le'])
    for (const [what, body] of Object.entries(bodies)) {
      peer.next = { afterBytes: 0, response, close: closes.resets as Close }
      await t.rejects(
        http.send({ ...put(body()), url: peer.url }),
        { code: 'platform-unavailable' },
        `${what}: ${response}`,
      )
    }
})

interface Rejection {
  /** Bytes of the request, head included, that are read before. */
  afterBytes: number
  response: string
  close: Close
}

/** A server that reads requests of 16 MiB and takes them, but rejects the next one as `next` says. */
async function startPeer(t: Test) {
  const sockets = new Set<Socket>()
  const peer: { url: string; next: Rejection | undefined } = { url: '', next: undefined }
  const server = createServer((socket) => {
    sockets.add(socket)
    let read = 0
    socket.on('error', () => {})
    socket.on('data', (bytes) => {
      read += bytes.length
      if (peer.next && read > peer.next.afterBytes) {
        const { response, close } = peer.next
        peer.next = undefined
        socket.pause()
        close(socket, response)
      } else if (!peer.next && read > 16 * MiB) {
        read = 0
        socket.write('HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}')
      }
    })
  })
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy()
    server.close()
    await once(server, 'close')
  })
  peer.url = await listen(server)
  return peer
}
