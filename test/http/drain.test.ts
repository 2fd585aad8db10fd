import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { createDrains, drainLimits } from '../../src/http/drain.ts'
import { key, startGateway } from '../support/gateway.ts'
import { startProcess } from '../support/process.ts'
import { requestHead } from '../support/raw.ts'

const head = requestHead('PUT', '/v1/videos/none/content', {
  'content-type': 'video/mp4',
  'content-length': 10 ** 9,
})

t.test('a drain is bounded in time, rate and bytes', async (t) => {
  const flood = (socket: Socket) => {
    const piece = Buffer.alloc(64 * 1024)
    const more = () => {
      while (socket.writable && socket.write(piece));
    }
    socket.on('drain', more)
    more()
  }
  const every = (ms: number, bytes: number) => (socket: Socket) => {
    const timer = setInterval(() => socket.write(Buffer.alloc(bytes)), ms)
    socket.once('close', () => clearInterval(timer))
  }
  const cases: {
    name: string
    limits: Partial<typeof drainLimits>
    send: (socket: Socket) => void
    most?: number
  }[] = [
    { name: 'in bytes', limits: { maxBytes: 1024 ** 2 }, send: flood, most: 1024 ** 2 + 64 * 1024 },
    { name: 'for a client that is silent', limits: { maxSlowSeconds: 2 }, send: () => {} },
    { name: 'for one that drips', limits: { maxSlowSeconds: 2 }, send: every(100, 1) },
    { name: 'in time, however much is sent', limits: { maxMs: 1_500 }, send: every(50, 10_000) },
    { name: 'for one that leaves', limits: {}, send: (socket: Socket) => void socket.end('bye') },
    { name: 'for one that resets', limits: {}, send: (socket: Socket) => void socket.resetAndDestroy() },
  ]
  await Promise.all(
    cases.map(async ({ name, limits, send, most }) => {
      const { drained, client } = await drain(t, limits)
      const [socket] = drained as [Socket]
      const [other] = client
      send(other as Socket)
      await new Promise((resolve) => socket.once('close', resolve))
      t.ok(socket.bytesRead <= (most ?? Number.POSITIVE_INFINITY), `${name}: ${socket.bytesRead} bytes`)
    }),
  )
})

t.test('beyond the maximum number of drains the oldest one is closed', async (t) => {
  const { drained } = await drain(t, { maxDrains: 3 }, 5)
  t.strictSame(
    drained.map(({ destroyed }) => destroyed),
    [true, true, false, false, false],
  )
})

t.test('a shutdown shortens all drains', async (t) => {
  const { drains, drained } = await drain(t, { shutdownMs: 500 }, 2)
  drains.shorten()
  await Promise.all(drained.map((socket) => once(socket, 'close')))
})

t.test('SIGTERM does not wait for the client of a rejected upload to stop sending', async (t) => {
  const sandbox = await startSandbox()
  t.teardown(() => sandbox.close())
  const gateway = await startProcess(t, { SANDBOX_BASE_URL: sandbox.url, DATABASE_URL: 'memory:' })
  const connection = await rejectedSender(gateway.url)
  const pump = setInterval(() => connection.write(Buffer.alloc(100_000)), 50)
  t.teardown(() => clearInterval(pump))
  await sleep(300)
  t.equal(await gateway.kill('SIGTERM'), 0)
})

t.test('a thousand rejected uploads that keep their connection cost little', async (t) => {
  const sandbox = await startSandbox()
  t.teardown(() => sandbox.close())
  const gateway = await startProcess(t, { SANDBOX_BASE_URL: sandbox.url, DATABASE_URL: 'memory:' })
  for (const { socket } of await Promise.all(Array.from({ length: 100 }, () => rejectedSender(gateway.url))))
    socket.destroy()
  const before = await residentBytes(gateway.child.pid)
  if (before === undefined) return void t.comment('no /proc here')
  const connections = []
  for (let batch = 0; batch < 20; batch++) {
    connections.push(...(await Promise.all(Array.from({ length: 50 }, () => rejectedSender(gateway.url)))))
  }
  const grown = ((await residentBytes(gateway.child.pid)) ?? 0) - before
  t.ok(grown < 100 * 1024 ** 2, `${Math.round(grown / 1024 ** 2)} MiB`)
  t.equal((await gateway.call('GET', '/v1/videos')).status, 200)
  for (const { socket } of connections) socket.destroy()
})

t.test('clients that half-close or keep sending can read the response', async (t) => {
  const gateway = await startGateway(t, { env: { UPLOAD_IDLE_TIMEOUT: '200ms' } })
  const { id } = await gateway.create()
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'video/mp4', 'content-length': 5_000_000 }
  for (const { name, send, end, status } of [
    { name: 'one that half-closes behind the head', send: head, end: true, status: 401 },
    { name: 'one that half-closes in the middle', send: `${head}abc`, end: true, status: 401 },
    {
      name: 'one that stops, and goes on when it is too late',
      send: requestHead('PUT', `/v1/videos/${id}/content`, headers),
      status: 408,
    },
    {
      name: 'one that half-closes a body that is accepted',
      send: `${requestHead('PUT', `/v1/videos/${id}/content`, headers)}\0\0\0\x18ftyp`,
      end: true,
      status: 400,
    },
  ]) {
    const socket = connect({
      port: Number(new URL(gateway.url).port),
      host: '127.0.0.1',
      allowHalfOpen: true,
    })
    let error: Error | undefined
    let received = ''
    socket.on('error', (reason) => (error = reason)).on('data', (chunk) => (received += chunk))
    socket.write(send, 'latin1')
    if (end) socket.end()
    await once(socket, 'end')
    if (!end) {
      await new Promise((resolve) => socket.write(Buffer.alloc(5_000_000), resolve))
      socket.end()
    }
    t.match(received, new RegExp(`^HTTP/1.1 ${status} [^]*connection: close`, 'i'), name)
    t.equal(error, undefined, name)
    if (!socket.closed) await once(socket, 'close')
  }
  t.equal(gateway.app.gateway.uploads.size, 0)
})

/** A connection whose upload was rejected, and on which 256 KB more have been sent. */
async function rejectedSender(url: string) {
  const { hostname, port } = new URL(url)
  const socket = connect({ port: Number(port), host: hostname, allowHalfOpen: true })
  socket.on('error', () => {}).resume()
  const ended = once(socket, 'end')
  socket.write(head)
  socket.write(Buffer.alloc(256 * 1024))
  await ended
  return { socket, write: (data: Buffer) => void (socket.writable && socket.write(data)) }
}

/** Connections that are drained by a server of their own; both ends. */
async function drain(t: Test, limits: Partial<typeof drainLimits>, count = 1) {
  const drains = createDrains({ ...drainLimits, ...limits })
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const client: Socket[] = []
  const drained: Socket[] = []
  for (let index = 0; index < count; index++) {
    const accepted = once(server, 'connection')
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
    socket.on('error', () => {}).resume()
    client.push(socket)
    const [other] = (await accepted) as [Socket]
    other.on('error', () => {})
    drained.push(other)
    drains.close(other)
  }
  t.teardown(() => {
    for (const socket of [...client, ...drained]) socket.destroy()
    server.close()
  })
  return { drains, client, drained }
}

async function residentBytes(pid: number | undefined): Promise<number | undefined> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
  const kilobytes = /^VmRSS:\s+(\d+)/m.exec(status)?.[1]
  return kilobytes ? Number(kilobytes) * 1024 : undefined
}
