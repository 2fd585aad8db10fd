import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createSecureServer, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { getCACertificates, setDefaultCACertificates, TLSSocket } from 'node:tls'
import t, { type Test } from 'tap'
import type { PlatformRequest } from '../../../src/platform/http/request.ts'
import { get, paced, post, setUp } from './http-setup.ts'

const openssl = spawnSync('openssl', ['version']).error ? 'openssl is not installed' : false
const certificate = openssl ? { key: '', cert: '' } : await makeCertificate()
if (!openssl) setDefaultCACertificates([...getCACertificates(), certificate.cert])

const timeouts = { connect: 10_000, answer: 30_000, whole: 30_000, afterUpload: 30_000 }
const tools = { retries: 0, timeouts }
const MiB = 2 ** 20

const put: PlatformRequest = { ...get, operation: 'upload', method: 'PUT' }
const uploads: Record<string, (size: number) => PlatformRequest> = {
  'a stream': (size) => ({ ...put, body: paced(size), length: size }),
  'a stream of unknown length': (size) => ({ ...put, body: paced(size) }),
  'a chunk': (size) => ({ ...put, body: Buffer.alloc(size) }),
}
const rejected = { code: 'platform-rejected', message: 'acme returned 413' }

t.test('a platform that speaks only HTTP/2 can be called', { skip: openssl }, async (t) => {
  const server = createSecureServer({ ...certificate, allowHTTP1: false })
  const bodies: number[] = []
  server.on('stream', async (stream: ServerHttp2Stream) => {
    let size = 0
    stream.on('error', () => {}).on('data', (bytes: Buffer) => (size += bytes.length))
    await once(stream, 'end')
    bodies.push(size)
    stream.respond({ ':status': 200, 'content-type': 'application/json' })
    stream.end('{"ok":true}')
  })
  const url = await serve(t, server)
  const { http } = await setUp(t, { tools })
  for (const request of [get, post]) t.match(await http.send({ ...request, url }), { status: 200 })
  await Promise.all(Array.from({ length: 50 }, () => http.send({ ...get, url })))
  bodies.length = 0
  for (const [what, upload] of Object.entries(uploads)) {
    t.match(await http.send({ ...upload(20 * MiB), url }), { status: 200 }, what)
    t.equal(bodies.pop(), 20 * MiB)
  }
})

const http2Ends: Record<string, (stream: ServerHttp2Stream) => void> = {
  'asks to stop sending (RFC 9113 §8.1)': (stream) => stream.end('{}', () => stream.close(0)),
  'cancels the stream': (stream) => stream.end('{}', () => stream.close(8)),
  'goes away': (stream) =>
    stream.end('{}', () => {
      stream.session?.goaway(0)
      stream.session?.close()
    }),
  'ends the connection': (stream) => stream.end('{}', () => stream.session?.destroy()),
  'ends it within its body': (stream) => stream.write('{', () => stream.session?.destroy()),
  'keeps the connection open': (stream) => void stream.end('{}'),
}

t.test('an early rejection over HTTP/2 is read', { skip: openssl }, async (t) => {
  for (const [how, end] of Object.entries(http2Ends)) {
    const server = createSecureServer({ ...certificate, allowHTTP1: false })
    server.on('session', (session: ServerHttp2Session) => session.on('error', () => {}))
    server.on('stream', (stream: ServerHttp2Stream) => {
      stream.on('error', () => {}).pause()
      stream.respond({ ':status': 413 })
      end(stream)
    })
    await expectRejected(t, server, how)
  }
})

t.test(
  'an early rejection over TLS is read although the connection is reset',
  { skip: openssl },
  async (t) => {
    const response = 'HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\n{}'
    const ends: Record<string, (tls: TLSSocket, socket: Socket) => void> = {
      'half-closes': (tls) => tls.end(response),
      'closes with bytes unread': (tls, socket) => tls.write(response, () => socket.destroy()),
      resets: (tls, socket) => tls.write(response, () => socket.resetAndDestroy()),
    }
    for (const [how, end] of Object.entries(ends)) {
      const server = createServer((socket) => {
        const tls = new TLSSocket(
          socket.on('error', () => {}),
          { isServer: true, ...certificate },
        )
        tls.on('error', () => {}).once('data', () => end(tls.pause(), socket))
      })
      await expectRejected(t, server, how)
    }
  },
)

/** Every upload to this server ends with the status that it sent early. */
async function expectRejected(t: Test, server: Server, how: string): Promise<void> {
  const url = await serve(t, server)
  for (const size of [300_000, 20 * MiB])
    for (const [what, upload] of Object.entries(uploads)) {
      const { http } = await setUp(t, { tools })
      await t.rejects(http.send({ ...upload(size), url }), rejected, `${what} of ${size}: ${how}`)
      await http.close()
    }
}

/** Connections are cut at the end of the test. @returns its URL */
async function serve(t: Test, server: Server): Promise<string> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket) => sockets.add(socket))
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy()
    server.close()
    await once(server, 'close')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return `https://localhost:${(server.address() as AddressInfo).port}/`
}

async function makeCertificate(): Promise<{ key: string; cert: string }> {
  const directory = await mkdtemp(join(tmpdir(), 'certificate-'))
  try {
    const [key, cert] = [join(directory, 'key.pem'), join(directory, 'cert.pem')]
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost']
    const algorithm = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1']
    spawnSync('openssl', ['req', '-x509', ...algorithm, ...subject, '-keyout', key, '-out', cert])
    return { key: await readFile(key, 'utf8'), cert: await readFile(cert, 'utf8') }
  } finally {
    await rm(directory, { recursive: true })
  }
}
