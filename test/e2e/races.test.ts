import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { startDouble as startCloudflare } from '../platform/doubles/cloudflare-stream.ts'
import { startDouble as startPeertube } from '../platform/doubles/peertube.ts'
import { fakeMp4, form, startGateway, temporaryDirectory } from '../support/gateway.ts'
import { beginPut } from '../support/raw.ts'
import { slowCreations } from '../support/slow-creations.ts'

const size = 3000

t.test('a rejected upload does not affect the one in progress', async (t) => {
  const gateway = await startGateway(t)
  const video = await gateway.create()
  const first = await beginPut(gateway.url, video.id, size)
  const second = await beginPut(gateway.url, video.id, size)
  // Both have seen a video that takes content.
  await sleep(100)
  first.write(fakeMp4(1000))
  await gateway.until(video.id, ({ upload }) => upload.bytesReceived === 1000)
  second.write(fakeMp4(1000))
  t.match(await second.rest(), /^HTTP\/1\.1 409 .*upload-in-progress/s)
  const metrics = await gateway.call('GET', '/metrics')
  t.match(metrics.body, /^gateway_uploads_in_progress 1$/m, 'it still counts')
  const shutdown = gateway.app.shutdown()
  await sleep(50)
  first.write(Buffer.alloc(2000))
  t.match(await first.rest(), /^HTTP\/1\.1 204 /, 'and is waited for')
  await shutdown
})

t.test('an upload that has sent nothing does not delay shutdown', async (t) => {
  const gateway = await startGateway(t, { env: { SHUTDOWN_TIMEOUT: '100ms' } })
  const video = await gateway.create()
  const connection = await beginPut(gateway.url, video.id, size)
  await sleep(100)
  await gateway.app.shutdown()
  t.match(await connection.rest(), /^HTTP\/1\.1 503 .*shutting-down/s)
})

t.test('the time a platform needs to create the slot does not count as client idle time', async (t) => {
  const gateway = await startGateway(t, { env: { UPLOAD_IDLE_TIMEOUT: '200ms' } })
  gateway.sandbox.knobs.faults.push({ operation: 'create', times: 1, delay_ms: 600 })
  const body = form({ title: 'news' }, fakeMp4(100_000))
  t.match(await gateway.call('POST', '/v1/videos', { body }), { status: 201 })
})

t.test('waiting for the platform between chunks does not count as client idle time', async (t) => {
  const double = await startPeertube()
  t.teardown(() => double.close())
  const env = { PLATFORM: 'peertube', ...double.variables, UPLOAD_IDLE_TIMEOUT: '300ms' }
  const gateway = await startGateway(t, { env })
  const video = await gateway.create()
  double.fail('upload', { status: 503, headers: { 'retry-after': '1' } })
  const content = fakeMp4(Number(double.chunkSize) * 3)
  t.match(await gateway.put(video.id, content), { status: 204 })
  t.strictSame(double.violations, [])
})

t.test('a slot that an upload creates for a deleted video is deleted too', async (t) => {
  const double = await startCloudflare()
  t.teardown(() => double.close())
  const { url, arrived } = await slowCreations(t, String(double.variables.CLOUDFLARE_STREAM_BASE_URL), [600])
  const env = {
    PLATFORM: 'cloudflare-stream',
    ...double.variables,
    CLOUDFLARE_STREAM_BASE_URL: url,
    DATABASE_URL: `sqlite:${join(await temporaryDirectory(t), 'shared.db')}`,
  }
  const [one, other] = [await startGateway(t, { env }), await startGateway(t, { env })]
  const video = await one.create()
  const connection = await beginPut(one.url, video.id, size)
  connection.write(fakeMp4(1000))
  await arrived
  t.equal((await other.call('DELETE', `/v1/videos/${video.id}`)).status, 204)
  connection.write(Buffer.alloc(2000))
  t.match(await connection.rest(), /^HTTP\/1\.1 410 .*video-deleted/s)
  t.equal(double.leftovers(), 0)
})
