import { once } from 'node:events'
import { connect } from 'node:net'
import t from 'tap'
import { fakeMp4, key, startGateway } from '../support/gateway.ts'
import { requestHead } from '../support/raw.ts'

/** More than the socket buffers of both sides hold: it arrives only if the gateway reads it. */
const bodyBytes = 8 * 1024 * 1024
const patience = 30_000

type Headers = Record<string, string | number>

/** A request that is answered before its body is read, or in the middle of it. */
interface Early {
  name: string
  status: number
  method?: string
  /** `$ID` is a new video, `$FULL` one that has its content. */
  path?: string
  headers?: Headers
  /** What the body begins with; the rest is filler. */
  begin?: string
  /** The gateway that gets it: one whose platform is down, or one with a small `UPLOAD_MAX_BYTES`. */
  on?: 'down' | 'small'
}

const mp4 = fakeMp4(64).toString('latin1')
const authorization = `Bearer ${key}`
const content = '/v1/videos/$ID/content'
const unknown = '/v1/videos/0192f0c1-0000-7000-8000-000000000000/content'
const part = (disposition: string, value: string) =>
  `--X\r\nContent-Disposition: form-data; ${disposition}\r\nContent-Type: video/mp4\r\n\r\n${value}`
const file = (bytes: string) => part('name="file"; filename="a.mp4"', bytes)
const form = { 'content-type': 'multipart/form-data; boundary=X' }

const raw = withDefaults({ begin: mp4 }, [
  { name: 'no token', status: 401, headers: { authorization: 'Bearer wrong' } },
  { name: 'an unknown video', status: 404, path: unknown },
  { name: 'an unknown path', status: 404, path: '/v1/nowhere' },
  { name: 'a malformed path', status: 400, path: '/v1/videos/%/content' },
  { name: 'an invalid Host', status: 400, headers: { host: 'a b' } },
  { name: 'a method that the path does not have', status: 405, path: '/v1/videos' },
  { name: 'a video that has its content', status: 409, path: '/v1/videos/$FULL/content' },
  { name: 'too many bytes', status: 413, on: 'small' },
  { name: 'a text', status: 415, headers: { 'content-type': 'text/html' } },
  { name: 'no MP4', status: 415, begin: 'this is not an MP4' },
  { name: 'a range', status: 400, headers: { 'content-range': 'bytes 0-9/10' } },
  { name: 'a platform that is down', status: 503, on: 'down' },
])

const forms = withDefaults({ method: 'POST', headers: form, begin: file(mp4) }, [
  { name: 'a form without a token', status: 401, headers: { ...form, authorization: 'Bearer wrong' } },
  { name: 'a form for an unknown video', status: 404, path: unknown, begin: file(mp4) },
  { name: 'a form for a video that has its content', status: 409, path: '/v1/videos/$FULL/content' },
  { name: 'a form with too many bytes', status: 413, on: 'small' },
  { name: 'a form without an MP4', status: 415, begin: file('this is not an MP4') },
  { name: 'a form with an unknown field', status: 400, begin: `${part('name="x"', 'y')}\r\n${file(mp4)}` },
  { name: 'a form while the platform is down', status: 503, on: 'down' },
])

const others = withDefaults({ method: 'POST' }, [
  {
    name: 'JSON that is too long',
    status: 413,
    path: '/v1/videos',
    headers: { 'content-type': 'application/json' },
  },
  {
    name: 'a token request that is too long',
    status: 400,
    path: '/oauth2/token',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
  },
  { name: 'a DELETE with a body', status: 415, method: 'DELETE', path: '/v1/videos/$ID' },
  { name: 'a GET with a body', status: 404, method: 'GET', path: '/v1/videos/none' },
])

/** How a client frames the body, and whether it wants to keep the connection. */
const manners: { name: string; version: string; headers: Headers; chunked?: boolean }[] = [
  { name: 'kept', version: '1.1', headers: {} },
  { name: 'closing', version: '1.1', headers: { connection: 'close' } },
  { name: 'expecting 100', version: '1.1', headers: { expect: '100-continue' } },
  {
    name: 'expecting 100 and closing',
    version: '1.1',
    headers: { expect: '100-continue', connection: 'close' },
  },
  { name: 'chunked', version: '1.1', headers: {}, chunked: true },
  { name: 'chunked and closing', version: '1.1', headers: { connection: 'close' }, chunked: true },
  { name: 'HTTP/1.0', version: '1.0', headers: {} },
  { name: 'HTTP/1.0 kept', version: '1.0', headers: { connection: 'keep-alive' } },
]

t.test(
  'a response that comes before the end of the body can be read by a client that sends all of it first',
  async (t) => {
    const gateway = await startGateway(t)
    const down = await startGateway(t)
    const small = await startGateway(t, { env: { UPLOAD_MAX_BYTES: '1MiB' } })
    const gateways = { down, small }
    const published = await gateway.create({ title: 'full' })
    t.equal((await gateway.put(published.id, fakeMp4(1000))).status, 204)
    down.sandbox.knobs.faults.push({ operation: 'ingest', times: 1_000, status: 503 })

    const cases = [...raw, ...forms, ...others].flatMap((one) => manners.map((manner) => ({ one, manner })))
    const lanes = [0, 1, 2, 3].map((lane) => cases.filter((_, index) => index % 4 === lane))
    await Promise.all(
      lanes.map(async (lane) => {
        for (const { one, manner } of lane) {
          const target = one.on ? gateways[one.on] : gateway
          const { id } =
            one.path === undefined || one.path.includes('$ID') ? await target.create() : published
          const path = (one.path ?? content).replace('$ID', id).replace('$FULL', published.id)
          const framing: Headers = manner.chunked
            ? { 'transfer-encoding': 'chunked' }
            : { 'content-length': bodyBytes }
          const headers = {
            host: 'gateway',
            authorization,
            'content-type': 'video/mp4',
            ...one.headers,
            ...framing,
            ...manner.headers,
          }
          const head = requestHead(one.method ?? 'PUT', path, headers).replace(
            'HTTP/1.1',
            `HTTP/${manner.version}`,
          )
          const seen = await sendAllThenRead(target.url, head, one.begin ?? '', manner.chunked === true)
          // A platform that is down may be noticed after the last byte: then the next request is one, and has its response.
          const late = one.on === 'down' && seen.kept
          t.match(
            seen,
            late
              ? { statuses: [one.status, 200], error: undefined }
              : { statuses: [one.status], kept: false, error: undefined, ended: true },
            `${one.name}, ${manner.name}`,
          )
        }
      }),
    )
    t.equal(gateway.app.gateway.uploads.size, 0)
  },
)

/** Sends the whole body and another request behind it, as a proxy that reuses connections would, and only then reads. */
async function sendAllThenRead(url: string, head: string, begin: string, chunked: boolean) {
  const socket = connect(Number(new URL(url).port), new URL(url).hostname)
  let error: string | undefined
  socket.on('error', ({ message }) => {
    error ??= message
  })
  await once(socket, 'connect')
  const timer = setTimeout(() => socket.destroy(new Error('hangs')), patience)
  socket.pause()
  socket.write(head)
  const body = Buffer.alloc(bodyBytes, 'Z')
  body.write(begin, 'latin1')
  if (chunked) socket.write(`${bodyBytes.toString(16)}\r\n`)
  socket.write(body)
  if (chunked) socket.write('\r\n0\r\n\r\n')
  const next = `GET /v1/videos HTTP/1.1\r\nhost: gateway\r\nauthorization: ${authorization}\r\n\r\n`
  await new Promise((resolve) => socket.write(next, resolve))
  let received = ''
  let ended = false
  socket.on('end', () => {
    ended = true
  })
  socket.on('data', (chunk) => {
    received += chunk.toString('latin1')
    if (/HTTP\/1\.1 200 /.test(received)) socket.end()
  })
  socket.resume()
  if (!socket.closed) await once(socket, 'close').catch(() => {})
  clearTimeout(timer)
  const statuses = [...received.matchAll(/HTTP\/1\.1 (?!100)(\d{3}) /g)].map(([, status]) => Number(status))
  return {
    statuses,
    kept: !/^connection: close\r$/im.test(received),
    error,
    ended,
    received: received.slice(0, 1000),
  }
}

function withDefaults(defaults: Partial<Early>, list: Early[]): Early[] {
  return list.map((one) => ({ ...defaults, ...one }))
}
