import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { PlatformRequest } from '../../../src/platform/http/request.ts'
import { get, listen, post, setUp } from './http-setup.ts'

t.jobs = 2

const timeouts = { connect: 30_000, answer: 30_000, whole: 30_000, afterUpload: 30_000 }
const many = Array.from({ length: 200 }, (_, index) => index)

const stream = (): PlatformRequest => ({
  ...get,
  operation: 'upload',
  method: 'PUT',
  body: Readable.from([Buffer.alloc(100_000)], { objectMode: false }),
  length: 100_000,
})
const chunk = (): PlatformRequest => ({
  ...get,
  operation: 'upload',
  method: 'PATCH',
  body: Buffer.alloc(100_000),
})

t.test('after 200 concurrent uploads, few connections are kept open', async (t) => {
  const together = gate(many.length)
  const { url, open, most } = await startPlatform(t, async (request, response) => {
    request.resume()
    if (request.method !== 'GET') await together()
    response.end('{}')
  })
  const { http } = await setUp(t, { tools: { timeouts } })
  for (const request of [() => post, stream, chunk, () => post]) {
    await Promise.all(
      many.map(async () => {
        t.match(await http.send({ ...request(), url }), { status: 200 })
        t.match(await http.send({ ...get, url }), { status: 200 })
      }),
    )
  }
  t.ok(most() >= many.length, `none waits for a connection: ${most()} at a time`)
  // Calls and chunks have a pool each, and no more is kept in either.
  await until(() => open() <= 128)
  t.ok(open() <= 128, `${open()} are kept`)
  t.ok(open() > 0, 'but some are')
})

t.test('a kept connection is reused after a response of any status', async (t) => {
  const statuses = [200, 204, 301, 404, 409, 413, 429, 503]
  let connections = 0
  const { url } = await startPlatform(
    t,
    (request, response) => {
      request.resume().once('end', () => {
        response.writeHead(Number(request.url?.slice(1)))
        response.end(request.url === '/204' ? undefined : '{}')
      })
    },
    () => (connections += 1),
  )
  const { http } = await setUp(t, { tools: { retries: 0, timeouts } })
  for (const request of [() => get, () => post, chunk]) {
    connections = 0
    for (let round = 0; round < 10; round++) {
      const calls = many.slice(0, 60).map((index) => {
        const status = String(statuses[index % statuses.length])
        return http.send({ ...request(), url: url + status, accept: index % 2 ? [409, 413] : [] })
      })
      await Promise.allSettled(calls)
      await sleep(5)
    }
    // A response that is faster than the end of a chunk's stream here closes the connection.
    t.ok(connections <= 120, `${connections} connections for 600 calls, 60 at a time`)
  }
})

t.test('uploads that the platform does not read do not delay calls', async (t) => {
  const { promise: released, resolve: release } = Promise.withResolvers<void>()
  let held = 0
  const { url } = await startPlatform(t, async (request, response) => {
    if (request.method === 'GET') return void response.end('{}')
    held += 1
    await released
    request.resume()
    response.end('{}')
  })
  const { http } = await setUp(t, { tools: { timeouts } })
  const uploads = many.map((index) => http.send({ ...(index % 2 ? stream() : chunk()), url }))
  await until(() => held === many.length)
  t.equal(held, many.length, 'all of them are in progress')
  for (let calls = 0; calls < 50; calls++) t.match(await http.send({ ...get, url }), { status: 200 })
  release()
  for (const { status } of await Promise.all(uploads)) t.equal(status, 200)
})

/** Lets everybody pass when `size` of them are there. */
function gate(size: number) {
  let waiting: (() => void)[] = []
  return () =>
    new Promise<void>((resolve) => {
      waiting.push(resolve)
      if (waiting.length < size) return
      for (const pass of waiting) pass()
      waiting = []
    })
}

async function startPlatform(
  t: Test,
  handle: (request: IncomingMessage, response: ServerResponse) => unknown,
  onConnection = () => {},
) {
  const sockets = new Set<Socket>()
  let most = 0
  const server = createServer({ keepAliveTimeout: 72_000 }, (request, response) => {
    request.on('error', () => {})
    void handle(request, response)
  })
  server.on('connection', (socket) => {
    onConnection()
    sockets.add(socket)
    most = Math.max(most, sockets.size)
    socket.on('error', () => {}).once('close', () => sockets.delete(socket))
  })
  t.teardown(async () => {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  })
  return { url: await listen(server), open: () => sockets.size, most: () => most }
}

async function until(done: () => boolean) {
  for (let tries = 0; !done() && tries < 1_000; tries++) await sleep(10)
}
