import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { fakeMp4, key, startGateway } from '../support/gateway.ts'
import { rawConnection, requestHead } from '../support/raw.ts'

type Headers = Record<string, string | number>

const authorization = `Bearer ${key}`
const title = '{"title":"x"}'
const file = fakeMp4(5000).toString('latin1')
const form = (fields: string) =>
  `${fields}--X\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\nContent-Type: video/mp4\r\n\r\n${file}\r\n--X--\r\n`
const field = '--X\r\nContent-Disposition: form-data; name="title"\r\n\r\nx\r\n'
const formType = { 'content-type': 'multipart/form-data; boundary=X' }
const get = `GET /v1/videos/none HTTP/1.1\r\nhost: gateway\r\nauthorization: ${authorization}\r\n\r\n`

/** A request that is whole, whose call the platform holds back. */
const requests: {
  name: string
  held: 'create' | 'ingest'
  send(id: string, headers?: Headers): string
  status: number
}[] = [
  {
    name: 'JSON',
    held: 'create',
    send: (_id, headers) =>
      request('POST', '/v1/videos', { 'content-type': 'application/json', ...headers }, title),
    status: 201,
  },
  {
    name: 'content',
    held: 'ingest',
    send: (id, headers) =>
      request('PUT', `/v1/videos/${id}/content`, { 'content-type': 'video/mp4', ...headers }, file),
    status: 204,
  },
  {
    name: 'content in chunks',
    held: 'ingest',
    send: (id, headers) =>
      `${requestHead('PUT', `/v1/videos/${id}/content`, {
        authorization,
        'content-type': 'video/mp4',
        'transfer-encoding': 'chunked',
        ...headers,
      })}${file.length.toString(16)}\r\n${file}\r\n0\r\n\r\n`,
    status: 204,
  },
  {
    name: 'content as a form',
    held: 'ingest',
    send: (id, headers) => request('POST', `/v1/videos/${id}/content`, { ...formType, ...headers }, form('')),
    status: 204,
  },
  {
    name: 'a form',
    held: 'ingest',
    send: (_id, headers) => request('POST', '/v1/videos', { ...formType, ...headers }, form(field)),
    status: 201,
  },
]

/**
 * What comes behind it, and which responses that has by itself. Where it cannot be the beginning of a request, the response
 * announces that the connection closes.
 */
const surplus: {
  name: string
  headers?: Headers
  later?: boolean
  send: string
  announced?: true
  statuses?: number[]
}[] = [
  { name: 'one byte', send: 'X', announced: true },
  { name: 'one byte in a later packet', later: true, send: 'X', announced: true },
  { name: 'a request after Connection: close', headers: { connection: 'close' }, send: get },
  {
    name: 'a request after Connection: close, later',
    headers: { connection: 'close' },
    later: true,
    send: get,
  },
  { name: 'one byte after Connection: close', headers: { connection: 'close' }, send: 'X' },
  { name: 'a TLS hello', send: '\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03', announced: true },
  { name: 'a megabyte of garbage', send: 'Z'.repeat(1024 * 1024), announced: true },
  { name: 'a line end', send: '\r\nX', announced: true },
  { name: 'a word that begins like a method', send: 'GETTING on', announced: true },
  { name: 'a method in small letters, later', later: true, send: 'get / HTTP/1.1\r\n\r\n', announced: true },
  { name: 'headers that are too large', send: `GET / HTTP/1.1\r\nx: ${'a'.repeat(100_000)}\r\n\r\n` },
  {
    name: 'both lengths',
    send: 'POST / HTTP/1.1\r\nhost: g\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n',
  },
  { name: 'a whole request, then garbage', send: `${get}X`, statuses: [404] },
  {
    name: 'two whole requests, then garbage, later',
    later: true,
    send: `${get}${get}X`,
    statuses: [404, 404],
  },
]

t.test('bytes after a complete request do not change its response', async (t) => {
  const lines: Record<string, unknown>[] = []
  const stream = { write: (line: string) => void lines.push(JSON.parse(line)) }
  const gateway = await startGateway(t, { logger: { level: 'info', stream } })
  const { knobs } = gateway.sandbox
  knobs.discard = true
  const videos = await Promise.all(requests.flatMap(() => surplus.map(() => gateway.create())))
  for (const { name, held, send, status } of requests) {
    knobs.hold = [held]
    const sent = surplus.map(async (extra) => {
      const { id } = videos.pop() as { id: string }
      const connection = await rawConnection(gateway.url)
      connection.write(Buffer.from(send(id, extra.headers) + (extra.later ? '' : extra.send), 'latin1'))
      await sleep(extra.later ? 50 : 0)
      if (extra.later) connection.write(Buffer.from(extra.send, 'latin1'))
      return { extra, id, connection }
    })
    const connections = await Promise.all(sent)
    while (gateway.sandbox.stats().held_answers < surplus.length) await sleep(5)
    await sleep(50)
    knobs.hold = []
    for (const { extra, id, connection } of connections) {
      const received = await connection.rest()
      const title = `${name}, ${extra.name}`
      const statuses = [...received.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, code]) => Number(code))
      t.strictSame(statuses, [status, ...(extra.statuses ?? [])], title)
      if (extra.announced || extra.headers)
        t.match(received, /^connection: close\r$/im, `${title}: announced`)
      t.ok(connection.socket.closed, `${title}: the connection is closed`)
      const made = /"id":"([^"]+)"/.exec(received)?.[1] ?? id
      if (held === 'ingest') await gateway.until(made, ({ stage }) => stage === 'ready')
    }
  }
  const malformed = lines.filter(({ msg }) => msg === 'malformed request')
  // What follows a request that closes its connection is not looked at (RFC 9112 §9.6).
  const parsed = surplus.filter(({ headers }) => headers?.connection === undefined)
  t.equal(malformed.length, requests.length * parsed.length, 'each is logged once')
  t.ok(malformed.every(({ requestId, detail }) => requestId && detail))
})

t.test('garbage that arrives while responses are being sent does not change them', async (t) => {
  const gateway = await startGateway(t)
  const { socket, write, rest } = await rawConnection(gateway.url)
  socket.pause()
  // More than the socket buffers hold.
  const count = 200
  write('GET /openapi.json HTTP/1.1\r\nhost: gateway\r\n\r\n'.repeat(count))
  await sleep(100)
  write('X')
  await sleep(100)
  socket.resume()
  const statuses = statusesOf(await rest())
  t.strictSame(statuses.slice(0, count), Array(count).fill(200), 'each response is whole')
  // When the responses are read fast enough, the garbage has its own place behind them.
  t.ok(statuses.length === count || statuses[count] === 400, `${statuses.slice(count)}`)
  t.ok(socket.closed)
})

/** Walks through the responses by their Content-Length. @throws Error if anything else stands between them */
function statusesOf(received: string): number[] {
  const statuses: number[] = []
  for (let rest = received; rest !== ''; ) {
    const [head = '', status] = /^HTTP\/1\.1 (\d{3}) .*?\r\n\r\n/s.exec(rest) ?? []
    const length = Number(/^content-length: (\d+)/im.exec(head)?.[1])
    if (!status || rest.length < head.length + length)
      throw new Error(`not a response: ${rest.slice(0, 200)}`)
    statuses.push(Number(status))
    rest = rest.slice(head.length + length)
  }
  return statuses
}

function request(method: string, path: string, headers: Headers, body: string): string {
  return requestHead(method, path, { authorization, 'content-length': body.length, ...headers }) + body
}
