import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { fakeMp4, key, startGateway } from '../support/gateway.ts'
import { rawConnection, requestHead } from '../support/raw.ts'

type Headers = Record<string, string | number>

const authorization = `Bearer ${key}`
const live = requestHead('GET', '/health/live', { connection: 'close' })
const sizes = [8, 1_000, 40_000, 65_536, 100_000, 200_000, 300_000, 1_000_000, 5_000_000]
const part =
  '--X\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\nContent-Type: video/mp4\r\n\r\n'

/** Requests with content that are rejected, some before a byte of it is read. */
const rejections: { name: string; down?: true; headers?: Headers; path?: string; status: number }[] = [
  { name: 'a platform that is down', down: true, status: 503 },
  { name: 'an unknown video', path: '/v1/videos/0192f0c1-0000-7000-8000-000000000000/content', status: 404 },
  { name: 'no token', headers: { authorization: 'Bearer wrong' }, status: 401 },
]

t.test('a rejection either keeps the connection for the next request, or announces its end', async (t) => {
  const gateway = await startGateway(t)
  const outcomes = { kept: 0, closed: 0 }
  for (const { name, down, headers, path, status } of rejections) {
    gateway.sandbox.knobs.faults = down ? [{ operation: 'ingest', times: 1_000, status: 503 }] : []
    for (const size of sizes)
      for (const isForm of [false, true]) {
        const { id } = await gateway.create()
        const connection = await rawConnection(gateway.url)
        const file = fakeMp4(size)
        const body = isForm ? Buffer.concat([Buffer.from(part), file, Buffer.from('\r\n--X--\r\n')]) : file
        const type = isForm ? 'multipart/form-data; boundary=X' : 'video/mp4'
        connection.write(
          requestHead(isForm ? 'POST' : 'PUT', path ?? `/v1/videos/${id}/content`, {
            authorization,
            'content-type': type,
            'content-length': body.length,
            ...headers,
          }),
        )
        connection.write(body)
        while (!/\r\n\r\n\{.*\}$/s.test(connection.received()) && !connection.socket.closed) await sleep(2)
        const title = `${name}, ${isForm ? 'form' : 'raw'}, ${size} bytes`
        const response = connection.received()
        t.match(response, new RegExp(`^HTTP/1.1 ${status} `), title)
        const closes = /^connection: close\r$/im.test(response)
        if (!closes) connection.write(live)
        const rest = (await connection.rest()).slice(response.length)
        t.match(rest, closes ? /^$/ : /^HTTP\/1\.1 200 /, `${title}: ${closes ? 'closes' : 'keeps'}`)
        t.ok(connection.socket.closed, title)
        outcomes[closes ? 'closed' : 'kept'] += 1
      }
  }
  t.ok(outcomes.kept > 0 && outcomes.closed > 0, JSON.stringify(outcomes))
})
