import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { fakeMp4, form, key, temporaryDirectory } from '../support/gateway.ts'
import { type GatewayProcess, startProcess } from '../support/process.ts'
import { beginPut, type RawConnection, rawConnection, requestHead } from '../support/raw.ts'

const token = { authorization: `Bearer ${key}` }
const json = { 'content-type': 'application/json' }
const boundary = { 'content-type': 'multipart/form-data; boundary=b' }
const flood = requestHead('GET', '/openapi.json', {}).repeat(1000)
const part = (name: string) => `--b\r\ncontent-disposition: form-data; name="${name}"`

async function setUp(t: Test, env: Record<string, string>) {
  const sandbox = await startSandbox({ knobs: { discard: true, processing_delay_ms: 10 } })
  t.teardown(() => sandbox.close())
  const database = join(await temporaryDirectory(t), 'gateway.db')
  const settings = { SANDBOX_BASE_URL: sandbox.url, DATABASE_URL: `sqlite:${database}` }
  const gateway = await startProcess(t, { ...settings, ...env })
  /** SQLite removes its write-ahead log when the store is closed, which is the last hook. */
  const storeIsClosed = () => existsSync(database) && !existsSync(`${database}-wal`)
  return { sandbox, gateway, settings, storeIsClosed }
}

async function until(done: () => boolean | Promise<boolean>) {
  for (const deadline = Date.now() + 20_000; Date.now() < deadline; await sleep(20)) if (await done()) return
  throw new Error('not in time')
}

const isDraining = async (gateway: GatewayProcess) =>
  (await gateway.call('GET', '/health/ready')).status === 503

interface Obstacle {
  name: string
  /** What is sent before the signal; a video's id is at hand. */
  send(id: string): (string | Uint8Array)[]
  /** One byte is sent every 50 ms until the connection closes. */
  drips?: string
  /** Reads nothing. */
  deaf?: boolean
  /** What the client gets in the end. */
  gets?: RegExp
}

const obstacles: Obstacle[] = [
  { name: 'no byte', send: () => [] },
  { name: 'half a request line', send: () => ['GET /v1/vid'] },
  { name: 'half the headers', send: () => ['GET /health/live HTTP/1.1\r\nhost: g\r\n'] },
  { name: 'headers that drip', send: () => ['GET /health/live HTTP/1.1\r\nhost: g\r\n'], drips: 'x' },
  { name: 'a TLS greeting', send: () => [Buffer.from('16030100a5010000a10303', 'hex')] },
  { name: 'a kept connection', send: () => [requestHead('GET', '/health/live', {})], gets: / 200 / },
  {
    name: 'half of a second request',
    send: () => [`${requestHead('GET', '/health/live', {})}GET /health`],
    gets: / 200 /,
  },
  { name: 'a long response that nobody reads', send: () => [flood], deaf: true },
  {
    name: 'half of a JSON body',
    send: () => [
      requestHead('POST', '/v1/videos', { ...token, ...json, 'content-length': 100 }),
      '{"title":',
    ],
    gets: / 503 .*shutting-down/s,
  },
  {
    name: 'a JSON body that drips',
    send: () => [
      requestHead('POST', '/v1/videos', { ...token, ...json, 'content-length': 9000 }),
      '{"title":"',
    ],
    drips: 'x',
    gets: / 503 .*shutting-down/s,
  },
  {
    name: 'a form that stops before its file',
    send: () => [
      requestHead('POST', '/v1/videos', { ...token, ...boundary, 'content-length': 9000 }),
      `${part('title')}\r\n\r\nx\r\n`,
    ],
    gets: / 503 .*shutting-down/s,
  },
  {
    name: 'a form that stops in its file',
    send: () => [
      requestHead('POST', '/v1/videos', { ...token, ...boundary, 'content-length': 90_000 }),
      `${part('title')}\r\n\r\nx\r\n${part('file')}; filename="a.mp4"\r\ncontent-type: video/mp4\r\n\r\n`,
      fakeMp4(5000),
    ],
    gets: / 503 .*shutting-down/s,
  },
  {
    name: 'an upload that waits for 100 Continue and sends nothing',
    send: (id) => [
      requestHead('PUT', `/v1/videos/${id}/content`, {
        ...token,
        'content-type': 'video/mp4',
        'content-length': 5000,
        expect: '100-continue',
      }),
    ],
    gets: / 503 .*shutting-down/s,
  },
  {
    name: 'an upload that drips',
    send: (id) => [
      requestHead('PUT', `/v1/videos/${id}/content`, {
        ...token,
        'content-type': 'video/mp4',
        'content-length': 90_000,
      }),
      fakeMp4(5000),
    ],
    drips: 'x',
    gets: / 503 .*shutting-down/s,
  },
  {
    name: 'a rejected upload that goes on dripping',
    send: (id) => [
      requestHead('PUT', `/v1/videos/${id}/content`, {
        'content-type': 'video/mp4',
        'content-length': 90_000,
      }),
      fakeMp4(5000),
    ],
    drips: 'x',
    gets: / 401 /,
  },
]

t.test('no connection delays the end of the process', async (t) => {
  const { gateway, settings, storeIsClosed } = await setUp(t, { SHUTDOWN_TIMEOUT: '500ms' })
  const ids: string[] = []
  const connections: RawConnection[] = []
  for (const { send, drips, deaf } of obstacles) {
    const { body } = await gateway.call('POST', '/v1/videos', { title: 'x' })
    ids.push(body.id)
    const connection = await rawConnection(gateway.url)
    if (deaf) connection.socket.pause()
    for (const piece of send(body.id)) connection.write(piece)
    if (drips !== undefined) drip(connection, drips)
    connections.push(connection)
  }
  await sleep(300)
  t.equal(await gateway.kill('SIGTERM'), 0)
  t.ok(storeIsClosed(), 'the hooks have run')
  for (const [index, { name, gets = /^/ }] of obstacles.entries()) {
    connections[index]?.socket.resume()
    t.match(await connections[index]?.rest(), gets, name)
  }

  const next = await startProcess(t, settings)
  for (const id of ids)
    t.match(await next.call('GET', `/v1/videos/${id}`), {
      body: { stage: 'awaiting-upload', upload: { bytesReceived: 0 } },
    })
})

function drip({ socket, write }: RawConnection, byte: string) {
  const timer = setInterval(() => write(byte), 50)
  socket.once('close', () => clearInterval(timer))
}

t.test('requests from before SIGTERM are finished, later ones are rejected', async (t) => {
  const { sandbox, gateway, storeIsClosed } = await setUp(t, {})
  const create = async () => (await gateway.call('POST', '/v1/videos', { title: 'x' })).body.id as string
  const [toDelete, toUpload, toReplay] = [await create(), await create(), await create()]
  const slow = 1_500
  sandbox.knobs.faults.push(
    { operation: 'create', times: 2, delay_ms: slow },
    { operation: 'delete', times: 1, delay_ms: slow },
    { operation: 'ingest', times: 1, delay_ms: slow },
  )
  const upload = await beginPut(gateway.url, toUpload, 1000)
  const inProgress = {
    'a creation': gateway.call('POST', '/v1/videos', { title: 'x' }),
    'a creation with content': fetch(`${gateway.url}/v1/videos`, {
      method: 'POST',
      headers: token,
      body: form({ title: 'x' }, fakeMp4(1000)),
    }),
    'a deletion': gateway.call('DELETE', `/v1/videos/${toDelete}`),
    'an upload that the platform accepts late': gateway.call(
      'PUT',
      `/v1/videos/${toReplay}/content`,
      fakeMp4(1000),
    ),
  }
  await until(() => sandbox.stats().calls.create >= 5 && sandbox.stats().calls.delete >= 1)
  const ended = gateway.kill('SIGTERM')
  await until(() => isDraining(gateway))

  const late: [method: string, path: string, status: number][] = [
    ['POST', '/v1/videos', 503],
    ['PUT', `/v1/videos/${toUpload}/content`, 503],
    ['DELETE', `/v1/videos/${toUpload}`, 503],
    ['POST', '/oauth2/token', 503],
    ['GET', `/v1/videos/${toUpload}`, 200],
    ['HEAD', '/v1/videos', 200],
    ['GET', '/health/live', 200],
    ['GET', '/health/ready', 503],
  ]
  for (const [method, path, status] of late) {
    const response = await gateway.call(method, path, method === 'POST' ? { title: 'late' } : undefined)
    t.equal(response.status, status, `${method} ${path}`)
    t.equal(response.headers.get('connection'), 'close')
    if (status === 503 && path.startsWith('/v1'))
      t.match([response.body.code, response.headers.get('retry-after')], ['shutting-down', /^\d+$/])
  }

  upload.write(fakeMp4(1000))
  t.match(await upload.rest(), /^HTTP\/1\.1 204 /, 'an upload whose first byte came after the signal')
  const statuses = await Promise.all(
    Object.entries(inProgress).map(async ([name, response]) => `${name}: ${(await response).status}`),
  )
  t.strictSame(statuses, [
    'a creation: 201',
    'a creation with content: 201',
    'a deletion: 204',
    'an upload that the platform accepts late: 204',
  ])
  t.equal(await ended, 0)
  t.ok(storeIsClosed())
})

t.test(
  'requests that exceed SHUTDOWN_TIMEOUT are aborted with 503, and their rows are settled',
  async (t) => {
    const { sandbox, gateway, settings } = await setUp(t, { SHUTDOWN_TIMEOUT: '300ms' })
    const { body: video } = await gateway.call('POST', '/v1/videos', { title: 'x' })
    sandbox.knobs.hold.push('create', 'ingest')
    const requests = [
      gateway.call('POST', '/v1/videos', { title: 'y' }),
      gateway.call('PUT', `/v1/videos/${video.id}/content`, fakeMp4(1000)),
    ]
    await until(() => sandbox.stats().held_answers === 2)
    const ended = gateway.kill('SIGTERM')
    for (const { status, body } of await Promise.all(requests))
      t.match({ status, code: body.code }, { status: 503, code: 'shutting-down' })
    t.equal(await ended, 0)
    sandbox.knobs.hold.length = 0
    const next = await startProcess(t, settings)
    // Whether the platform has the whole file is what it says when it is asked.
    await until(async () => (await next.call('GET', `/v1/videos/${video.id}`)).body.stage !== 'uploading')
    t.match((await next.call('GET', '/v1/videos')).body.items.length, 1, 'the creation left no video')
  },
)

const formHead = [
  requestHead('POST', '/v1/videos', { ...token, ...boundary, 'content-length': 90_000 }),
  `${part('title')}\r\n\r\nx\r\n${part('file')}; filename="a.mp4"\r\ncontent-type: video/mp4\r\n\r\n`,
  fakeMp4(5000),
]
const wholeForm = async () => {
  const { headers, body } = new Response(form({ title: 'x' }, fakeMp4(1000)))
  const bytes = new Uint8Array(await new Response(body).arrayBuffer())
  const type = headers.get('content-type') as string
  return [
    requestHead('POST', '/v1/videos', { ...token, 'content-type': type, 'content-length': bytes.length }),
    bytes,
  ]
}

/** Creations with content that a shutdown interrupts. */
const interrupted: {
  name: string
  send(): Promise<(string | Uint8Array)[]> | (string | Uint8Array)[]
  /** What the platform does not answer. */
  held?: 'ingest' | 'delete'
  /** The client leaves after the signal. */
  leave?: (client: RawConnection) => void
  /** The platform does not answer the deletion in time. */
  left?: true
}[] = [
  { name: 'in its file', send: () => formHead },
  { name: 'while the platform accepts its file', send: wholeForm, held: 'ingest' },
  { name: 'by its client, which closes', send: () => formHead, leave: ({ socket }) => void socket.end() },
  {
    name: 'by its client, which resets',
    send: () => formHead,
    leave: ({ socket }) => void socket.resetAndDestroy(),
  },
  { name: 'while the platform hangs', send: () => formHead, held: 'delete', left: true },
]

for (const { name, send, held, leave, left } of interrupted)
  t.test(`a form that is interrupted ${name} leaves nothing on the platform`, async (t) => {
    const env = { SHUTDOWN_TIMEOUT: leave ? '20s' : '300ms' }
    const { sandbox, gateway, settings, storeIsClosed } = await setUp(t, env)
    const clips = () => Object.values(sandbox.stats().clips).reduce((sum, count) => sum + count, 0)
    const client = await rawConnection(gateway.url)
    if (held) sandbox.knobs.hold = [held]
    for (const piece of await send()) client.write(piece)
    await until(() =>
      held === 'ingest' ? sandbox.stats().held_answers === 1 : sandbox.stats().calls.ingest === 1,
    )
    t.equal(clips(), 1)
    const ended = gateway.kill('SIGTERM')
    await until(() => isDraining(gateway))
    leave?.(client)
    t.equal(await ended, 0)
    t.ok(storeIsClosed())
    if (!leave) t.match(await client.rest(), / 503 .*shutting-down/s)
    sandbox.knobs.hold = []
    if (left) await startProcess(t, settings)
    // The next process does not wait until the hold of the first one expires.
    if (left) await until(() => clips() === 0)
    t.equal(clips(), 0)
  })

t.test('a second signal ends the wait; a duplicate of the first does not', async (t) => {
  const { gateway, sandbox } = await setUp(t, { SHUTDOWN_TIMEOUT: '1h' })
  sandbox.knobs.hold.push('create')
  const request = gateway.call('POST', '/v1/videos', { title: 'x' })
  await until(() => sandbox.stats().held_answers === 1)
  const ended = gateway.kill('SIGINT')
  gateway.child.kill('SIGINT')
  await sleep(1_500)
  t.equal(gateway.child.exitCode, null, 'npm passes on what the terminal sent already')
  gateway.child.kill('SIGTERM')
  t.match(await request, { status: 503, body: { code: 'shutting-down' } })
  t.equal(await ended, 0)
})
