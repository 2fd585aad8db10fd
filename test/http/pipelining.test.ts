import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { fakeMp4, key, startGateway, type TestGateway } from '../support/gateway.ts'
import { type RawConnection, rawConnection, requestHead } from '../support/raw.ts'

const token = { authorization: `Bearer ${key}` }
const json = { 'content-type': 'application/json' }
const get = (id: number, path = '/health/live') => requestHead('GET', path, { 'x-request-id': `r${id}` })
const post = (id: number, body: string) =>
  requestHead('POST', '/v1/videos', {
    ...token,
    ...json,
    'x-request-id': `r${id}`,
    'content-length': body.length,
  }) + body
const chunked = (id: number, body: string, trailers = '') =>
  `${requestHead('POST', '/v1/videos', {
    ...token,
    ...json,
    'x-request-id': `r${id}`,
    'transfer-encoding': 'chunked',
  })}${body.length.toString(16)}\r\n${body}\r\n0\r\n${trailers}\r\n`

/** The status and the id of each response, in the order in which they came. */
const seen = (text: string) =>
  [...text.matchAll(/HTTP\/1\.1 (\d{3}) (?:.*\r\n)*?x-request-id: (r\d+)\r\n/g)].map(
    ([, status, id]) => `${id} ${status}`,
  )

async function responses({ socket, received }: RawConnection, count: number): Promise<string[]> {
  for (const deadline = Date.now() + 20_000; Date.now() < deadline; await sleep(20)) {
    const found = seen(received())
    if (found.length >= count || socket.closed) return found
  }
  return seen(received())
}

const connections = ({ app }: TestGateway) =>
  new Promise<number>((resolve) => app.server.server.getConnections((_error, count) => resolve(count)))

t.test('pipelined requests get their responses in order, wherever the packets end', async (t) => {
  const gateway = await startGateway(t)
  const numbers = (count: number) => Array.from({ length: count }, (_, index) => index)
  const crlf = '{\r\n\r\n}'
  const cases: Record<string, [requests: string[], expected: string[]]> = {
    '1,500 GET': [numbers(1500).map((id) => get(id)), numbers(1500).map((id) => `r${id} 200`)],
    'JSON by length': [numbers(50).map((id) => post(id, '{}')), numbers(50).map((id) => `r${id} 400`)],
    'JSON in chunks': [numbers(50).map((id) => chunked(id, '{}')), numbers(50).map((id) => `r${id} 400`)],
    'bodies that look like the end of headers': [
      [post(0, crlf), chunked(1, crlf), post(2, crlf), get(3)],
      ['r0 400', 'r1 400', 'r2 400', 'r3 200'],
    ],
    trailers: [
      [chunked(0, '{}', 'a: b\r\nc: d\r\n'), get(1)],
      ['r0 400', 'r1 200'],
    ],
    'GET, JSON and unknown paths in turn': [
      numbers(60).map(
        (id) => [get(id), post(id, '{}'), chunked(id, '{}'), get(id, '/nope')][id % 4] as string,
      ),
      numbers(60).map((id) => `r${id} ${[200, 400, 400, 404][id % 4]}`),
    ],
  }
  for (const [name, [requests, expected]] of Object.entries(cases)) {
    const bytes = Buffer.from(requests.join(''), 'latin1')
    for (const size of [bytes.length, 1000, 61, 3]) {
      if (bytes.length / size > 2000) continue
      const connection = await rawConnection(gateway.url)
      connection.socket.setNoDelay(true)
      for (let at = 0; at < bytes.length; at += size) {
        connection.write(bytes.subarray(at, at + size))
        // Packets of their own, at least for most of them.
        if (size < bytes.length && (at / size) % 20 === 0) await sleep(1)
      }
      t.strictSame(
        await responses(connection, expected.length),
        expected,
        `${name}, packets of ${size} bytes`,
      )
      connection.socket.destroy()
    }
  }
})

t.test('a request that follows an upload in the same packet gets its response after it', async (t) => {
  const sandbox = await startSandbox({ knobs: { discard: true, processing_delay_ms: 10 } })
  t.teardown(() => sandbox.close())
  const gateway = await startGateway(t, { sandbox })
  for (const [name, size, framing] of [
    ['a small one', 1000, 'length'],
    ['one that goes straight to the parser', 3_000_000, 'length'],
    ['one in chunks', 1000, 'chunks'],
    ['a large one in chunks', 3_000_000, 'chunks'],
  ] as const) {
    const { id } = await gateway.create()
    const content = fakeMp4(size)
    const connection = await rawConnection(gateway.url)
    const headers = { ...token, 'content-type': 'video/mp4', 'x-request-id': 'r0' }
    const path = `/v1/videos/${id}/content`
    if (framing === 'length')
      connection.write(requestHead('PUT', path, { ...headers, 'content-length': size }))
    else {
      connection.write(requestHead('PUT', path, { ...headers, 'transfer-encoding': 'chunked' }))
      connection.write(`${size.toString(16)}\r\n`)
    }
    connection.write(content.subarray(0, size - 10))
    await gateway.until(id, ({ upload }) => upload.bytesReceived >= (size > 1000 ? 300_000 : 900))
    const end = framing === 'length' ? '' : '\r\n0\r\n\r\n'
    connection.write(Buffer.concat([content.subarray(size - 10), Buffer.from(end + get(1) + get(2))]))
    t.strictSame(await responses(connection, 3), ['r0 204', 'r1 200', 'r2 200'], name)
    connection.write(get(3) + get(4))
    t.strictSame(
      (await responses(connection, 5)).slice(3),
      ['r3 200', 'r4 200'],
      'and the connection is kept',
    )
    connection.socket.destroy()
    t.match(await gateway.until(id, ({ status }) => status !== 'pending'), { status: 'ready' })
  }
})

t.test('too many requests in the last packet of a large upload close the connection', async (t) => {
  const sandbox = await startSandbox({ knobs: { discard: true, processing_delay_ms: 10 } })
  t.teardown(() => sandbox.close())
  const gateway = await startGateway(t, { sandbox })
  const { id } = await gateway.create()
  const size = 3_000_000
  const connection = await rawConnection(gateway.url)
  const headers = { ...token, 'content-type': 'video/mp4', 'content-length': size }
  connection.write(requestHead('PUT', `/v1/videos/${id}/content`, headers))
  connection.write(fakeMp4(size - 10))
  await gateway.until(id, ({ upload }) => upload.bytesReceived >= 300_000)
  const flood = Array.from({ length: 1500 }, (_, index) => get(index, '/openapi.json')).join('')
  connection.write(`${'x'.repeat(10)}${flood}`)
  // It depends on the packets whether the parser sees the flood with the end of the upload.
  const { length } = await responses(connection, 1500)
  t.ok(length === 1500 || connection.socket.closed, `${length} responses`)
  connection.socket.destroy()
  t.match(await gateway.call('GET', '/health/live'), { status: 200 })
})

t.test('a slow request delays the next one on its connection, and none on others', async (t) => {
  const gateway = await startGateway(t)
  gateway.sandbox.knobs.hold.push('create')
  const connection = await rawConnection(gateway.url)
  const body = '{"title":"x"}'
  const headers = { ...token, ...json, 'content-length': body.length, 'x-request-id': 'r0' }
  connection.write(`${requestHead('POST', '/v1/videos', headers)}${body}${get(1)}\0 no HTTP`)
  t.match(await gateway.call('GET', '/health/live'), { status: 200 })
  await sleep(100)
  t.equal(connection.received(), '', 'nothing is said in its place')
  gateway.sandbox.knobs.hold.pop()
  t.strictSame(await responses(connection, 2), ['r0 201', 'r1 200'])
  t.notMatch(await connection.rest(), /HTTP\/1\.1 400 /, 'what is malformed behind them is no request')
  t.ok(connection.socket.closed)
})

t.test('a client that reads nothing is disconnected, one that reads slowly is not', async (t) => {
  const gateway = await startGateway(t, { connectionLimits: { responseIdleMs: 1_000 } })
  const requests = 80
  const flood = Array.from({ length: requests }, (_, id) => get(id, '/openapi.json')).join('')
  const dead = await rawConnection(gateway.url)
  dead.socket.pause()
  dead.write(flood)
  const slow = await rawConnection(gateway.url)
  slow.write(flood)
  slow.socket.on('data', () => {
    slow.socket.pause()
    setTimeout(() => slow.socket.resume(), 15)
  })
  t.strictSame((await responses(slow, requests)).length, requests)
  for (const deadline = Date.now() + 20_000; Date.now() < deadline && (await connections(gateway)) > 1; )
    await sleep(50)
  t.equal(await connections(gateway), 1, 'only the slow one is left')
  dead.socket.resume()
  t.ok(seen(await dead.rest()).length < requests)
  slow.socket.destroy()
})

t.test('a response that waits for a platform is not limited by the read timeout', async (t) => {
  const gateway = await startGateway(t, { connectionLimits: { responseIdleMs: 100 } })
  gateway.sandbox.knobs.faults.push({ operation: 'create', times: 1, delay_ms: 700 })
  t.match(await gateway.call('POST', '/v1/videos', { json: { title: 'x' } }), { status: 201 })
})

t.test('the number of connections is limited, and idle ones are closed first', async (t) => {
  const gateway = await startGateway(t, { connectionLimits: { maxConnections: 3 } })
  const [idle, ...busy] = await Promise.all([1, 2, 3].map(() => rawConnection(gateway.url)))
  for (const connection of busy) connection.write('GET /health/live HTTP/1.1\r\n')
  idle?.write(get(0))
  t.strictSame(await responses(idle as RawConnection, 1), ['r0 200'])
  const refused = await rawConnection(gateway.url)
  t.equal(await refused.rest(), '', 'closed without a response')
  t.match(await idle?.rest(), /^HTTP/, 'and so is the idle one, which makes room')
  await until(t, async () => (await connections(gateway)) === 2)
  const next = await rawConnection(gateway.url)
  next.write(get(1))
  t.strictSame(await responses(next, 1), ['r1 200'])
  for (const connection of busy) {
    connection.write('host: g\r\nx-request-id: r2\r\n\r\n')
    t.strictSame(await responses(connection, 1), ['r2 200'], 'those in use were left alone')
  }
  for (const { socket } of [...busy, next]) socket.destroy()
})

async function until(t: Test, done: () => Promise<boolean>) {
  for (const deadline = Date.now() + 10_000; Date.now() < deadline; await sleep(10)) if (await done()) return
  t.fail('in time')
}
