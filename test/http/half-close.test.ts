import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { clipsOn, fakeMp4, key, startGateway, type TestGateway } from '../support/gateway.ts'
import { startProcess } from '../support/process.ts'
import { requestHead } from '../support/raw.ts'

type Headers = Record<string, string | number>

const authorization = `Bearer ${key}`
const title = '{"title":"x"}'
const file = fakeMp4(5_000).toString('latin1')
/** Goes straight to the parser after its first bytes. */
const largeFile = fakeMp4(2_000_000).toString('latin1')
const form = (fields: string) =>
  `${fields}--X\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\nContent-Type: video/mp4\r\n\r\n${file}\r\n--X--\r\n`
const field = '--X\r\nContent-Disposition: form-data; name="title"\r\n\r\nx\r\n'
const formType = { 'content-type': 'multipart/form-data; boundary=X' }
const jsonType = { 'content-type': 'application/json' }
const contentType = { 'content-type': 'video/mp4' }
const tokenType = { 'content-type': 'application/x-www-form-urlencoded' }
const chunks = (body: string) => `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`
const live = requestHead('GET', '/health/live', {})
const content = '/v1/videos/$ID/content'
const post = (headers: Headers = {}) => request('POST', '/v1/videos', { ...jsonType, ...headers }, title)

/** What the client sends before it closes its side, and the statuses of the responses. `$ID` is a new video. */
const whole: { name: string; send: string; statuses: number[]; held?: 'create' | 'ingest' | 'delete' }[] = [
  { name: 'GET', send: live, statuses: [200] },
  { name: 'GET of a large response', send: requestHead('GET', '/openapi.json', {}), statuses: [200] },
  { name: 'HEAD', send: requestHead('HEAD', '/health/live', {}), statuses: [200] },
  { name: 'GET with HTTP/1.0', send: live.replace('1.1', '1.0'), statuses: [200] },
  {
    name: 'GET that closes',
    send: requestHead('GET', '/health/live', { connection: 'close' }),
    statuses: [200],
  },
  { name: 'an unknown path', send: requestHead('GET', '/nowhere', {}), statuses: [404] },
  { name: 'JSON', send: post(), statuses: [201], held: 'create' },
  {
    name: 'JSON that expects 100',
    send: post({ expect: '100-continue' }),
    statuses: [100, 201],
    held: 'create',
  },
  { name: 'JSON with HTTP/1.0', send: post().replace('1.1', '1.0'), statuses: [201], held: 'create' },
  {
    name: 'JSON in chunks',
    send:
      requestHead('POST', '/v1/videos', { authorization, ...jsonType, 'transfer-encoding': 'chunked' }) +
      chunks(title),
    statuses: [201],
    held: 'create',
  },
  { name: 'invalid JSON', send: request('POST', '/v1/videos', jsonType, '{'), statuses: [400] },
  {
    name: 'a form',
    send: request('POST', '/v1/videos', formType, form(field)),
    statuses: [201],
    held: 'ingest',
  },
  {
    name: 'a form of content',
    send: request('POST', content, formType, form('')),
    statuses: [204],
    held: 'ingest',
  },
  { name: 'content', send: request('PUT', content, contentType, file), statuses: [204], held: 'ingest' },
  {
    name: 'large content',
    send: request('PUT', content, contentType, largeFile),
    statuses: [204],
    held: 'ingest',
  },
  {
    name: 'content in chunks',
    send:
      requestHead('PUT', content, { authorization, ...contentType, 'transfer-encoding': 'chunked' }) +
      chunks(largeFile),
    statuses: [204],
    held: 'ingest',
  },
  {
    name: 'DELETE',
    send: requestHead('DELETE', '/v1/videos/$ID', { authorization }),
    statuses: [204],
    held: 'delete',
  },
  {
    name: 'a token request',
    send: request('POST', '/oauth2/token', tokenType, 'grant_type=x'),
    statuses: [400],
  },
  { name: 'two requests', send: live + live, statuses: [200, 200] },
  { name: 'a slow request, then another', send: post() + live, statuses: [201, 200], held: 'create' },
  {
    name: 'content, then another request',
    send: request('PUT', content, contentType, largeFile) + live,
    statuses: [204, 200],
    held: 'ingest',
  },
]

/** The client closes its side in the middle of this. */
const half: { name: string; send: string; statuses: number[] }[] = [
  { name: 'a request line', send: 'GET /v1', statuses: [400] },
  { name: 'headers', send: 'GET / HTTP/1.1\r\nhost: g\r\n', statuses: [400] },
  { name: 'JSON', send: post().slice(0, -3), statuses: [400] },
  { name: 'the head alone', send: post().slice(0, -title.length), statuses: [400] },
  {
    name: 'a form',
    send: request('POST', '/v1/videos', formType, form(field)).slice(0, -30),
    statuses: [400],
  },
  { name: 'content', send: request('PUT', content, contentType, file).slice(0, -1), statuses: [400] },
  {
    name: 'large content',
    send: request('PUT', content, contentType, largeFile).slice(0, -1),
    statuses: [400],
  },
  {
    name: 'content that waits for 100',
    send: requestHead('PUT', content, {
      authorization,
      ...contentType,
      expect: '100-continue',
      'content-length': 9,
    }),
    statuses: [100, 400],
  },
  {
    name: 'content in chunks',
    send: `${requestHead('PUT', content, { authorization, ...contentType, 'transfer-encoding': 'chunked' })}${chunks(file).slice(0, -2)}`,
    statuses: [400],
  },
  // Behind a request in progress, bytes that are no request get no response of their own.
  { name: 'a second request', send: `${live}GET /v1`, statuses: [200] },
  { name: 'a second request behind a slow one', send: `${post()}GET /v1`, statuses: [201] },
]

t.test('a request that is complete when its client closes its side gets its response', async (t) => {
  const gateway = await startGateway(t)
  const { knobs } = gateway.sandbox
  knobs.discard = true
  for (const later of [false, true]) {
    for (const { name, send, statuses, held } of whole) {
      const title = `${name}, ${later ? 'then the end' : 'with the end'}`
      const { id } = await gateway.create()
      const clips = clipsOn(gateway)
      if (held) knobs.hold = [held]
      const client = await halfClosing(gateway, send.replace('$ID', id), later ? 30 : 0)
      if (held) {
        while (gateway.sandbox.stats().held_answers === 0) await sleep(2)
        await sleep(20)
        knobs.hold = []
      }
      const received = await client.rest()
      t.strictSame(statusesOf(received), statuses, title)
      if (held && statuses.at(-1) !== 200)
        t.match(received, /^connection: close\r$/im, `${title}: announces the end`)
      t.equal(client.error(), undefined, `${title}: no reset`)
      if (statuses.includes(201)) t.equal(clipsOn(gateway), clips + 1, title)
      if (held === 'ingest') {
        const made = /"id":"([^"]+)"/.exec(received)?.[1] ?? id
        await gateway.until(made, ({ stage }) => stage === 'ready')
      }
    }
  }
  await nothingIsOpen(t, gateway)
})

t.test('an incomplete request is aborted when its client closes its side', async (t) => {
  const gateway = await startGateway(t)
  for (const { name, send, statuses } of half) {
    const { id } = await gateway.create()
    const clips = clipsOn(gateway)
    const client = await halfClosing(gateway, send.replace('$ID', id), 0)
    t.strictSame(statusesOf(await client.rest()), statuses, name)
    t.equal(client.error(), undefined, `${name}: no reset`)
    await gateway.until(id, ({ stage }) => stage === 'awaiting-upload')
    t.equal(clipsOn(gateway), clips + (statuses.includes(201) ? 1 : 0), `${name}: nothing is left`)
  }
  t.equal(gateway.app.gateway.uploads.size, 0)
  await nothingIsOpen(t, gateway)
})

t.test('a client that disconnects ends its request', async (t) => {
  const gateway = await startGateway(t, {
    env: { UPLOAD_IDLE_TIMEOUT: '1h' },
    connectionLimits: { responseIdleMs: 500 },
  })
  const { knobs } = gateway.sandbox
  for (const [name, leave] of Object.entries({
    'by a reset': (client: Client) => client.socket.resetAndDestroy(),
    'by a close': (client: Client) => client.socket.destroy(),
    'by a half-close, and reads nothing': (client: Client) => client.socket.end().pause(),
  })) {
    knobs.hold = ['create']
    const client = await open(gateway)
    client.socket.write(post())
    while (gateway.sandbox.stats().held_answers === 0) await sleep(2)
    leave(client)
    knobs.hold = []
    await nothingIsOpen(t, gateway, name)
    client.socket.destroy()
    // More than the buffers of both sockets hold.
    const reader = await open(gateway)
    reader.socket.pause()
    reader.socket.write(requestHead('GET', '/openapi.json', {}).repeat(200))
    await sleep(50)
    leave(reader)
    await nothingIsOpen(t, gateway, `${name}, in the middle of responses`)
    reader.socket.destroy()
  }
})

t.test('half-closed connections do not delay shutdown', async (t) => {
  const sandbox = await startSandbox({ knobs: { discard: true } })
  t.teardown(() => sandbox.close())
  const env = { SANDBOX_BASE_URL: sandbox.url, DATABASE_URL: 'memory:', SHUTDOWN_TIMEOUT: '2s' }
  const gateway = await startProcess(t, env)
  sandbox.knobs.hold = ['create']
  const send = Array.from({ length: 5 }, () => post())
  const clients = await Promise.all(send.map((request) => halfClosing(gateway, request, 10)))
  const deaf = await open(gateway)
  deaf.socket.pause()
  deaf.socket.end(requestHead('GET', '/openapi.json', {}).repeat(200))
  while (sandbox.stats().held_answers < 5) await sleep(5)
  const ended = gateway.kill('SIGTERM')
  await sleep(300)
  sandbox.knobs.hold = []
  for (const client of clients) t.strictSame(statusesOf(await client.rest()), [201])
  t.equal(await ended, 0)
  deaf.socket.destroy()
})

t.test('a half-closed connection whose call exceeds the shutdown timeout gets a 503', async (t) => {
  const sandbox = await startSandbox({ knobs: { discard: true } })
  t.teardown(() => sandbox.close())
  const env = { SANDBOX_BASE_URL: sandbox.url, DATABASE_URL: 'memory:', SHUTDOWN_TIMEOUT: '200ms' }
  const gateway = await startProcess(t, env)
  sandbox.knobs.hold = ['create']
  const client = await halfClosing(gateway, post(), 0)
  while (sandbox.stats().held_answers === 0) await sleep(5)
  t.equal(await gateway.kill('SIGTERM'), 0)
  t.match(await client.rest(), /^HTTP\/1\.1 503 .*shutting-down/s)
  sandbox.knobs.hold = []
})

interface Client {
  socket: ReturnType<typeof connect>
  /** Everything that came until the gateway closed its side. */
  rest(): Promise<string>
  error(): string | undefined
}

async function open({ url }: { url: string }): Promise<Client> {
  const socket = connect({
    port: Number(new URL(url).port),
    host: new URL(url).hostname,
    allowHalfOpen: true,
  })
  let received = ''
  let error: string | undefined
  socket.on('data', (chunk) => {
    received += chunk.toString('latin1')
  })
  socket.on('error', ({ message }) => {
    error ??= message
  })
  const ended = once(socket, 'close')
  await once(socket, 'connect')
  return {
    socket,
    async rest() {
      await ended.catch(() => {})
      return received
    },
    error: () => error,
  }
}

/** Sends this and closes its side, `pause` ms after the last byte went out. */
async function halfClosing(gateway: { url: string }, send: string, pause: number): Promise<Client> {
  const client = await open(gateway)
  if (pause === 0) client.socket.end(Buffer.from(send, 'latin1'))
  else {
    client.socket.write(Buffer.from(send, 'latin1'))
    await sleep(pause)
    client.socket.end()
  }
  return client
}

async function nothingIsOpen(t: Test, { app, url }: TestGateway, name = 'afterwards') {
  const { server } = app.server
  const connections = promisify(server.getConnections.bind(server))
  // The connections of `call` are kept, those of the clients are not.
  for (const deadline = Date.now() + 10_000; Date.now() < deadline; await sleep(20)) {
    server.closeIdleConnections()
    if ((await connections()) === 0) return t.pass(`${name}: no connection is open at ${url}`)
  }
  t.fail(`${name}: ${await connections()} connections are open`)
}

function statusesOf(received: string): number[] {
  return [...received.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status))
}

function request(method: string, path: string, headers: Headers, body: string): string {
  return requestHead(method, path, { authorization, 'content-length': body.length, ...headers }) + body
}
