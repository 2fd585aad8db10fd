import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { key } from '../support/gateway.ts'
import { startProcess } from '../support/process.ts'
import { rawConnection, requestHead } from '../support/raw.ts'

const MiB = 2 ** 20
const packetBytes = 58_500
const token = { authorization: `Bearer ${key}` }
const withBody = (path: string, type: string, body: string) =>
  requestHead('POST', path, { 'content-type': type, 'content-length': body.length }) + body
const inChunks = (path: string, body: string) =>
  requestHead('POST', path, { 'content-type': 'application/json', 'transfer-encoding': 'chunked' }) +
  `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`

/** One request of each kind; a connection sends as many of them as fit in one packet, and reads nothing. */
const floods: Record<string, string> = {
  'the OpenAPI document': requestHead('GET', '/openapi.json', {}),
  metrics: requestHead('GET', '/metrics', {}),
  'a script of Swagger UI': requestHead('GET', '/docs/static/swagger-ui-bundle.js', {}),
  'a range of it': requestHead('GET', '/docs/static/swagger-ui-bundle.js', { range: 'bytes=0-' }),
  'a problem page': requestHead('GET', '/problems/invalid-request', {}),
  'an unknown path': requestHead('GET', '/nope', {}),
  'no credentials': requestHead('GET', '/v1/videos', {}),
  'a page of 200 videos': requestHead('GET', '/v1/videos?limit=200', token),
  HEAD: requestHead('HEAD', '/openapi.json', {}),
  OPTIONS: requestHead('OPTIONS', '/openapi.json', {}),
  'JSON by length': withBody('/v1/videos', 'application/json', '{}'),
  'JSON in chunks': inChunks('/v1/videos', '{}'),
  'token requests': withBody('/oauth2/token', 'application/x-www-form-urlencoded', 'grant_type=x'),
}
const packet = (request: string) => request.repeat(Math.floor(packetBytes / request.length))

t.test('1,000 connections that send data and never read cost less than 100 MiB', async (t) => {
  const sandbox = await startSandbox({})
  t.teardown(() => sandbox.close())
  const gateway = await startProcess(
    t,
    { SANDBOX_BASE_URL: sandbox.url, DATABASE_URL: 'memory:' },
    '--max-old-space-size=160',
    'src/server.ts',
  )
  const memory = () => {
    const status = readFileSync(`/proc/${gateway.child.pid}/status`, 'utf8')
    return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) * 1024
  }
  const isLive = async () => (await gateway.call('GET', '/health/live')).status === 200

  for (let count = 0; count < 200; count++)
    await gateway.call('POST', '/v1/videos', { title: 'x'.repeat(100) })
  // As after an hour of work: all code is loaded and compiled, the heap has its usual size.
  const warmUps = await Promise.all(Object.values(floods).map(() => rawConnection(gateway.url)))
  for (const [index, request] of Object.values(floods).entries()) warmUps[index]?.write(packet(request))
  for (let last = -1, now = 0; now > last; await sleep(500)) {
    last = now
    now = warmUps.reduce((sum, { socket }) => sum + socket.bytesRead, 0)
  }
  for (const { socket } of warmUps) socket.destroy()
  const before = memory()
  let highest = before
  const connections = []
  for (let count = 0; count < 1000; count++) {
    const requests = Object.values(floods)
    const connection = await rawConnection(gateway.url)
    connection.socket.pause()
    connection.write(packet(requests[count % requests.length] as string))
    connections.push(connection)
    if (count % 50 === 0) highest = Math.max(highest, memory())
  }
  t.ok(await isLive(), 'others are served meanwhile')
  for (let count = 0; count < 10; count++) {
    await sleep(200)
    highest = Math.max(highest, memory())
  }
  const growth = Math.round((highest - before) / MiB)
  t.comment(`${growth} MiB`)
  t.ok(growth < 100, `${growth} MiB`)
  t.ok(await isLive())
  for (const { socket } of connections) socket.destroy()
  t.equal(await gateway.kill('SIGTERM'), 0)
})
