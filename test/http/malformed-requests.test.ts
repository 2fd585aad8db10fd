import { get } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { key, startGateway } from '../support/gateway.ts'
import { rawConnection } from '../support/raw.ts'

const post = 'POST /v1/videos HTTP/1.1\r\nhost: gateway\r\n'
const chunked = `${post}authorization: Bearer ${key}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n`

/** What is wrong with the request, and what the response says about it. */
const cases: { name: string; send: string; status?: number; detail: RegExp }[] = [
  {
    name: 'a length and chunks',
    send: `${post}content-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
    detail: /both Content-Length and Transfer-Encoding/,
  },
  {
    name: 'chunks and a length',
    send: `${post}transfer-encoding: chunked\r\ncontent-length: 6\r\n\r\n0\r\n\r\n`,
    detail: /both Content-Length and Transfer-Encoding/,
  },
  {
    name: 'two lengths',
    send: `${post}content-length: 6\r\ncontent-length: 7\r\n\r\n`,
    detail: /Send it once/,
  },
  {
    name: 'a length that is no number',
    send: `${post}content-length: 1e3\r\n\r\n`,
    detail: /decimal digits/,
  },
  {
    name: 'an unknown coding',
    send: `${post}transfer-encoding: gzip\r\n\r\n`,
    detail: /`Transfer-Encoding: chunked`/,
  },
  { name: 'TLS', send: '\x16\x03\x01\x02\0\x01', detail: /does not speak TLS/ },
  { name: 'HTTP/2', send: 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', detail: /Use HTTP\/1\.1/ },
  {
    name: 'HTTP/2 with its first frame',
    send: 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0',
    detail: /Use HTTP\/1\.1/,
  },
  { name: 'PRI as a method', send: 'PRI * HTTP/1.1\r\nhost: g\r\n\r\n', detail: /Use HTTP\/1\.1/ },
  ...[
    'GET / RTSP/1.0',
    'POST /v1/videos RTSP/1.0',
    '\r\nGET / RTSP/1.0',
    'OPTIONS * RTSP/1.0',
    'SOURCE / ICE/1.0',
  ].map((line) => ({
    name: line,
    send: `${line}\r\nhost: g\r\n\r\n`,
    detail: /protocol (RTSP|ICE) is not supported/,
  })),
  ...['example.com:443', '/v1/videos', '[::1]:80', '*'].map((target) => ({
    name: `CONNECT ${target}`,
    send: `CONNECT ${target} HTTP/1.1\r\nhost: g\r\n\r\n`,
    detail: /^(CONNECT is not supported|The request line is malformed)/,
  })),
  {
    name: 'CONNECT with HTTP/1.0',
    send: 'CONNECT a:443 HTTP/1.0\r\n\r\n',
    detail: /CONNECT is not supported/,
  },
  {
    name: 'CONNECT with a body that does not come',
    send: 'CONNECT a:443 HTTP/1.1\r\nhost: g\r\ncontent-length: 5\r\n\r\n',
    detail: /CONNECT is not supported/,
  },
  {
    name: 'CONNECT and the bytes of a tunnel',
    send: `CONNECT a:443 HTTP/1.1\r\nhost: g\r\n\r\n\x16\x03\x01${'x'.repeat(200_000)}`,
    detail: /CONNECT is not supported/,
  },
  { name: 'HTTP/9.9', send: 'GET / HTTP/9.9\r\n\r\n', detail: /Use HTTP\/1\.1/ },
  { name: 'a method in small letters', send: 'get / HTTP/1.1\r\n\r\n', detail: /method in capital letters/ },
  { name: 'a space in the path', send: 'GET /a b HTTP/1.1\r\n\r\n', detail: /Percent-encode/ },
  {
    name: 'a byte that is not ASCII in the path',
    send: 'GET /\xff HTTP/1.1\r\n\r\n',
    detail: /Percent-encode/,
  },
  { name: 'a space before the colon', send: `${post}x : a\r\n\r\n`, detail: /A header contains a character/ },
  { name: 'a bare LF', send: 'GET / HTTP/1.1\nhost: g\n\n', detail: /ended by CRLF/ },
  {
    name: 'headers of 100 KB',
    send: `${post}x: ${'a'.repeat(100_000)}`,
    status: 431,
    detail: /at most 16 KiB of headers/,
  },
  // These have a request, whose handler responds.
  { name: 'a chunk size that is no number', send: `${chunked}zz\r\n`, detail: /hexadecimal digits/ },
  { name: 'a chunk longer than its size', send: `${chunked}2\r\nabcd\r\n`, detail: /hexadecimal digits/ },
]

t.test('malformed HTTP gets a 400 with the reason, and one log line', async (t) => {
  let lines: Record<string, unknown>[] = []
  const stream = { write: (line: string) => void lines.push(JSON.parse(line)) }
  const gateway = await startGateway(t, { logger: { level: 'info', stream } })
  for (const { name, send, status = 400, detail } of cases) {
    lines = []
    const connection = await rawConnection(gateway.url)
    connection.write(Buffer.from(send, 'latin1'))
    const received = await connection.rest()
    const [headers = '', body = ''] = received.split('\r\n\r\n')
    t.match(headers, new RegExp(`^HTTP/1.1 ${status} [^]*connection: close`, 'i'), name)
    const [, requestId] = /^x-request-id: (.+)$/im.exec(headers) ?? []
    t.match(JSON.parse(body), { status, detail, requestId }, name)
    const logged = () => lines.filter((line) => line.requestId === requestId && line.detail)
    while (logged().length === 0) await sleep(5)
    t.equal(logged().length, 1, `${name}: one line`)
    t.match(logged()[0]?.detail, detail, name)
  }
})

t.test('a request line that arrives in pieces is checked as a whole', async (t) => {
  const gateway = await startGateway(t)
  for (const [line, status] of [
    ['GET /health/live RTSP/1.0', 400],
    ['GET /RTSP/1.0 HTTP/1.1', 404],
    ['GET /health/live HTTP/1.1', 200],
  ] as const) {
    const connection = await rawConnection(gateway.url)
    // The second request on the connection, one byte at a time.
    connection.write('GET /health/live HTTP/1.1\r\nhost: g\r\n\r\n')
    while (!connection.received().includes('{"status":"ok"}')) await sleep(5)
    for (const byte of `${line}\r\nhost: g\r\nconnection: close\r\n\r\n`) {
      connection.write(byte)
      await sleep(1)
    }
    t.match(await connection.rest(), new RegExp(`HTTP/1.1 200 .*HTTP/1.1 ${status} `, 's'), line)
  }
})

t.test('an upgrade that is not supported is ignored', async (t) => {
  const gateway = await startGateway(t)
  const headers = { 'sec-websocket-key': 'x', 'http2-settings': 'AAMAAABk' }
  for (const upgrade of ['websocket', 'h2c', 'HTTP/2.0', 'TLS/1.0', 'a, b']) {
    const { status } = await new Promise<{ status?: number | undefined }>((resolve, reject) =>
      get(
        `${gateway.url}/health/live`,
        { headers: { ...headers, connection: 'upgrade', upgrade } },
        (response) => {
          resolve({ status: response.resume().statusCode })
        },
      ).on('error', reject),
    )
    t.equal(status, 200, upgrade)
  }
})

t.test('a connection that sends nothing gets no response', async (t) => {
  const lines: string[] = []
  const gateway = await startGateway(t, {
    logger: { level: 'info', stream: { write: (line: string) => void lines.push(line) } },
  })
  const connection = await rawConnection(gateway.url)
  connection.socket.end()
  t.equal(await connection.rest(), '')
  t.notMatch(lines.join(''), 'malformed')
})
