import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { GatewayError } from '../../src/errors.ts'
import { sweepStrandedVideos } from '../../src/publication/stranded.ts'
import { startDouble as startCloudflare } from '../platform/doubles/cloudflare-stream.ts'
import { clipsOn, fakeMp4, form, startGateway, temporaryDirectory } from '../support/gateway.ts'
import { type GatewayProcess, startProcess } from '../support/process.ts'
import { beginPut } from '../support/raw.ts'
import { slowCreations } from '../support/slow-creations.ts'
import { aVideo } from '../support/video.ts'

/** What is late must harm nothing: holders that stop in the middle, and come back when another one has taken over. */

const script = 'test/support/crash-gateway.ts'
const keyed = { 'idempotency-key': 'k' }

async function until(what: string, done: () => unknown): Promise<void> {
  for (const deadline = Date.now() + 20_000; Date.now() < deadline; await sleep(20)) if (await done()) return
  throw new Error(`never: ${what}`)
}

/** Two processes on one database, whose claims last 600 ms. */
async function twoProcesses(t: Test, env: Record<string, string>) {
  const variables = { DATABASE_URL: `sqlite:${await temporaryDirectory(t)}/gateway.db`, ...env }
  return [await startProcess(t, variables, script), await startProcess(t, variables, script)] as const
}

const stageOf = async (gateway: GatewayProcess, id: string) =>
  (await gateway.call('GET', `/v1/videos/${id}/status`)).body.stage

t.test('a creation that was suspended does not delete the slot that another process uses', async (t) => {
  const sandbox = await startSandbox({ knobs: { discard: true, processing_delay_ms: 10 } })
  t.teardown(() => sandbox.close())
  const [one, two] = await twoProcesses(t, { SANDBOX_BASE_URL: sandbox.url })
  const clips = () => Object.values(sandbox.stats().clips).reduce((sum, count) => sum + count, 0)
  const create = (gateway: GatewayProcess) => gateway.call('POST', '/v1/videos', { title: 'x' }, keyed)
  sandbox.knobs.hold = ['create']
  const first = create(one)
  await until('the slot is made', () => sandbox.stats().held_answers === 1)
  one.child.kill('SIGSTOP')
  let again = await create(two)
  await until('another process takes over', async () => {
    again = await create(two)
    return again.status === 201
  })
  const { id } = again.body
  t.equal((await two.call('PUT', `/v1/videos/${id}/content`, fakeMp4(1000))).status, 204)
  sandbox.knobs.hold = []
  await sleep(100)
  one.child.kill('SIGCONT')
  const late = await first
  t.ok([201, 504].includes(late.status), `the first caller hears ${late.status}`)
  if (late.status === 201) t.equal(late.body.id, id, 'of the same video')
  await until('it is ready', async () => (await stageOf(two, id)) === 'ready')
  // Longer than all searches for leftovers.
  await sleep(3_000)
  t.equal(clips(), 1, 'the slot is still there')
  t.equal(await stageOf(one, id), 'ready')
  t.equal((await one.call('DELETE', `/v1/videos/${id}`)).status, 204)
  t.equal(clips(), 0)
})

t.test('an upload that was suspended does not overwrite the slot of the next upload', async (t) => {
  const double = await startCloudflare()
  t.teardown(() => double.close())
  const { url, arrived } = await slowCreations(
    t,
    String(double.variables.CLOUDFLARE_STREAM_BASE_URL),
    [3_000],
  )
  const [one, two] = await twoProcesses(t, {
    PLATFORM: 'cloudflare-stream',
    ...double.variables,
    CLOUDFLARE_STREAM_BASE_URL: url,
  })
  const { id, title } = (await one.call('POST', '/v1/videos', { title: 'overtaken' })).body
  const upload = (gateway: GatewayProcess) => gateway.call('PUT', `/v1/videos/${id}/content`, fakeMp4(3_000))
  const first = upload(one)
  await arrived
  one.child.kill('SIGSTOP')
  await until('the slot is free again', async () => (await upload(two)).status === 204)
  double.finish(title)
  await until('it is ready', async () => (await stageOf(two, id)) === 'ready')
  await until('both are made', () => double.leftovers() === 2)
  one.child.kill('SIGCONT')
  const late = await first
  t.ok([409, 504].includes(late.status), `the first caller hears ${late.status}`)
  await until('what it made is removed', () => double.leftovers() === 1)
  const removed = async (gateway: GatewayProcess) =>
    /leftovers_removed_total\{platform="cloudflare-stream"\} 1/.test(
      (await gateway.call('GET', '/metrics')).body,
    )
  t.ok((await removed(one)) || (await removed(two)), 'and counted')
  t.equal(await stageOf(two, id), 'ready')
  t.equal((await two.call('DELETE', `/v1/videos/${id}`)).status, 204)
  t.equal(double.leftovers(), 0, 'nothing is left')
})

t.test('a video that is deleted while the cleanup of its upload fails leaves nothing behind', async (t) => {
  const double = await startCloudflare()
  t.teardown(() => double.close())
  const { url, arrived } = await slowCreations(t, String(double.variables.CLOUDFLARE_STREAM_BASE_URL), [400])
  const env = { PLATFORM: 'cloudflare-stream', ...double.variables, CLOUDFLARE_STREAM_BASE_URL: url }
  const [one, two] = await twoProcesses(t, env)
  const { id } = (await one.call('POST', '/v1/videos', { title: 'deleted' })).body
  const uploading = one.call('PUT', `/v1/videos/${id}/content`, fakeMp4(3_000))
  await arrived
  double.fail('find', { status: 500, body: {} }, 6)
  double.fail('remove', { status: 500, body: {} }, 3)
  t.equal((await two.call('DELETE', `/v1/videos/${id}`)).status, 204)
  t.match(await uploading, { status: 410, body: { code: 'video-deleted' } })
  await until('what it made is removed', () => double.leftovers() === 0)
})

t.test('a creation that is rejected after its claim expired frees its key', async (t) => {
  const gateway = await startGateway(t, { policy: { claim: 400 } })
  const { knobs } = gateway.sandbox
  const post = () => gateway.call('POST', '/v1/videos', { json: { title: 'x' }, headers: keyed })
  knobs.faults.push({ operation: 'create', times: 1, status: 422, delay_ms: 900 })
  t.equal((await post()).status, 504, 'it ends with its claim')
  t.equal((await post()).status, 201)
})

t.test('a rejected upload is reported as rejected even if the platform has content', async (t) => {
  const gateway = await startGateway(t)
  for (const status of [400, 409, 413, 415, 422, 429]) {
    const { id } = await gateway.create()
    gateway.sandbox.knobs.faults.push({ operation: 'ingest', times: 1, status, after_bytes: 1_000 })
    // What an earlier upload left: it would answer for the one that was rejected.
    const { status: ask } = gateway.app.gateway.platforms.get('sandbox')!
    const platform = gateway.app.gateway.platforms.get('sandbox')!
    platform.status = async () => ({ state: 'processing' })
    const { status: heard } = await gateway.put(id, fakeMp4(1_000))
    platform.status = ask
    t.ok(heard === 422 || heard === 503, `${status} is ${heard}`)
    t.equal((await gateway.call('GET', `/v1/videos/${id}/status`)).body.stage, 'awaiting-upload')
    t.match(await gateway.call('GET', `/v1/videos/${id}`), { body: { upload: { bytesReceived: 0 } } })
  }
})

t.test('an upload whose response is lost counts every byte', async (t) => {
  const gateway = await startGateway(t)
  const { id } = await gateway.create()
  gateway.sandbox.knobs.faults.push({ operation: 'ingest', times: 1, reset: true, late: true })
  t.equal((await gateway.put(id, fakeMp4(5_000))).status, 204)
  t.match(await gateway.call('GET', `/v1/videos/${id}`), {
    body: { upload: { bytesReceived: 5_000, bytesTotal: 5_000 } },
  })
})

t.test('if a process ends after the last byte was sent, the next process resolves the upload', async (t) => {
  const sandbox = await startSandbox({ knobs: { discard: true, processing_delay_ms: 10, hold: ['ingest'] } })
  t.teardown(() => sandbox.close())
  const env = {
    SANDBOX_BASE_URL: sandbox.url,
    DATABASE_URL: `sqlite:${await temporaryDirectory(t)}/gateway.db`,
    SHUTDOWN_TIMEOUT: '300ms',
  }
  const one = await startProcess(t, env)
  const { id } = (await one.call('POST', '/v1/videos', { title: 'x' })).body
  const uploading = one.call('PUT', `/v1/videos/${id}/content`, fakeMp4(1_000)).catch(() => undefined)
  await until('every byte is there', () => sandbox.stats().held_answers === 1)
  t.equal(await one.kill('SIGTERM'), 0)
  t.ok([undefined, 503].includes((await uploading)?.status))
  sandbox.knobs.hold = ['get']
  const two = await startProcess(t, env)
  await until('the next process asks', () => sandbox.stats().held_answers > 0)
  t.equal(await two.kill('SIGTERM'), 0)
  sandbox.knobs.hold = []
  const began = Date.now()
  const three = await startProcess(t, env)
  await until('it is ready', async () => (await stageOf(three, id)) === 'ready')
  t.ok(Date.now() - began < 30_000, 'a check that was cut gave its claim back, which lasts a minute')
})

t.test('an upload times out when the platform stops reading in the last piece', async (t) => {
  const sockets = new Set<{ destroy(): void }>()
  const stuck = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {}).pause()
  }).listen(0, '127.0.0.1')
  await once(stuck, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    stuck.close()
  })
  const gateway = await startGateway(t, {
    env: { UPLOAD_IDLE_TIMEOUT: '300ms' },
    tools: { timeouts: { connect: 500, answer: 500, whole: 2_000, afterUpload: 500 } },
  })
  const { port } = stuck.address() as AddressInfo
  for (const leaves of [false, true]) {
    const { id } = await gateway.create()
    const { videoId } = (await gateway.app.gateway.store.find(id))!.slot
    const ingest = {
      clip_id: videoId,
      state: 'empty',
      failure: null,
      ingest_url: `http://127.0.0.1:${port}/`,
    }
    gateway.sandbox.knobs.faults.push({ operation: 'get', times: 1, status: 200, body: ingest })
    const connection = await beginPut(gateway.url, id, 8_000_000)
    connection.write(fakeMp4(8_000_000))
    if (leaves) setTimeout(() => connection.socket.destroy(), 100)
    else t.match(await connection.rest(), /^HTTP\/1\.1 504 /)
    await gateway.until(id, ({ stage }) => stage === 'awaiting-upload')
  }
})

for (const [name, awayMs, heard] of [
  ['for one call', 0, 204],
  ['for a second', 1_000, 204],
  ['until the caller has given up', Number.POSITIVE_INFINITY, 503],
] as const) {
  t.test(`an upload survives a store that fails ${name} after the last byte`, async (t) => {
    const gateway = await startGateway(t, { policy: { uploadLease: 500, claim: 500 } })
    const { store } = gateway.app.gateway
    const { update } = store
    const { id } = await gateway.create()
    gateway.sandbox.knobs.hold = ['ingest']
    const put = gateway.put(id, fakeMp4(5_000))
    await until('every byte is there', () => gateway.sandbox.stats().held_answers === 1)
    let backAt: number | undefined
    store.update = async () => {
      backAt ??= performance.now() + awayMs
      if (awayMs > 0 && performance.now() > backAt) store.update = update
      if (awayMs === 0) store.update = update
      throw new GatewayError('store-unavailable')
    }
    gateway.sandbox.knobs.hold = []
    t.equal((await put).status, heard)
    store.update = update
    t.equal((await gateway.put(id, fakeMp4(4_000))).status, 409, 'the platform has the first file')
    await gateway.until(id, ({ stage }) => stage === 'failed')
    t.match(await gateway.call('GET', `/v1/videos/${id}`), { body: { upload: { bytesReceived: 5_000 } } })
  })
}

for (const [name, lost] of [
  ['is told to the next upload', false],
  ['is not taken for the next upload, whose answer is lost', true],
] as const) {
  t.test(`content that arrives after its upload was abandoned ${name} does no harm`, async (t) => {
    const timeouts = { connect: 500, answer: 500, whole: 2_000, afterUpload: 200 }
    const gateway = await startGateway(t, { tools: { timeouts } })
    const { id } = await gateway.create()
    gateway.sandbox.knobs.faults.push({ operation: 'ingest', times: 1, delay_ms: 600 })
    t.equal((await gateway.put(id, fakeMp4(5_000))).status, 504)
    t.match(await gateway.call('GET', `/v1/videos/${id}`), {
      body: { stage: 'awaiting-upload', upload: { bytesReceived: 0 } },
    })
    if (lost) gateway.sandbox.knobs.faults.push({ operation: 'ingest', times: 1, status: 502, late: true })
    else await until('it has arrived', () => gateway.sandbox.stats().clips.failed === 1)
    t.equal((await gateway.put(id, fakeMp4(4_000))).status, lost ? 503 : 409)
    t.equal((await gateway.put(id, fakeMp4(4_000))).status, 409)
    t.equal(
      (await gateway.until(id, ({ stage }) => stage === 'failed')).error.code,
      'platform-processing-failed',
    )
    if (!lost)
      t.match(await gateway.call('GET', `/v1/videos/${id}`), { body: { upload: { bytesReceived: 5_000 } } })
  })
}

t.test('a creation with content is all or nothing, even if the store fails at the end', async (t) => {
  const gateway = await startGateway(t, { policy: { uploadLease: 500, claim: 500 } })
  const { store } = gateway.app.gateway
  const { update, plan } = store
  const away = async () => {
    throw new GatewayError('store-unavailable')
  }
  gateway.sandbox.knobs.hold = ['ingest']
  const body = form({ title: 'News' }, fakeMp4(5_000))
  const post = gateway.call('POST', '/v1/videos', { body })
  await until('every byte is there', () => gateway.sandbox.stats().held_answers === 1)
  Object.assign(store, { update: away, plan: away })
  gateway.sandbox.knobs.hold = []
  t.ok((await post).status >= 500, 'the client gets an error')
  Object.assign(store, { update, plan })
  await until('nothing is published', () =>
    Object.values(gateway.sandbox.stats().clips).every((count) => count === 0),
  )
  t.strictSame((await gateway.call('GET', '/v1/videos')).body.items, [])
})

t.test('videos of a platform that is no longer configured do not stay pending forever', async (t) => {
  const lines: string[] = []
  const logger = { level: 'warn', stream: { write: (line: string) => void lines.push(line) } }
  const gateway = await startGateway(t, { logger })
  const { store, policy } = gateway.app.gateway
  const day = 24 * 3_600_000
  const rows = [1, 4].map((days) =>
    aVideo({
      platform: 'mux',
      stage: 'processing',
      stageSince: Date.now() - days * day,
      nextCheckAt: Date.now() - 1,
    }),
  )
  for (const row of rows) await store.insert(row)
  t.equal(policy.patience.silence, 3 * day)
  await sweepStrandedVideos(gateway.app.gateway)
  const [recent, old] = await Promise.all(rows.map(({ id }) => store.find(id)))
  t.match(recent, { stage: 'processing' })
  t.ok((recent?.nextCheckAt ?? 0) > Date.now() + 500_000, 'it is not tried each minute')
  t.match(old, { stage: 'failed', error: { code: 'platform-unreachable' } })
  t.strictSame(lines, [], 'and no line for each')
})

t.test('a video in another account of the platform is not touched', async (t) => {
  const file = `${await temporaryDirectory(t)}/gateway.db`
  const sandbox = await startSandbox({ knobs: { discard: true, processing_delay_ms: 10 } })
  t.teardown(() => sandbox.close())
  const env = { DATABASE_URL: `sqlite:${file}` }
  const one = await startGateway(t, { sandbox, env })
  const { id } = await one.create()
  await one.close()
  const calls = () => Object.values(sandbox.stats().calls).reduce((sum, count) => sum + count, 0)
  const before = calls()
  const other = await startGateway(t, { sandbox, env: { ...env, SANDBOX_CLIENT_ID: 'another' } })
  for (const [method, path] of [
    ['DELETE', `/v1/videos/${id}`],
    ['DELETE', `/v1/videos/${id}`],
  ] as const)
    t.match(await other.call(method, path), { status: 503, body: { detail: /another account/ } })
  t.equal(calls(), before, 'the platform is not asked')
  await other.close()
  const again = await startGateway(t, { sandbox, env })
  t.equal((await again.call('DELETE', `/v1/videos/${id}`)).status, 204)
  t.equal(clipsOn(again), 0)
})

const pages = [
  { status: 404, body: '<html>Not found</html>', headers: { 'content-type': 'text/html' } },
  { status: 404, body: 'Not found', headers: { 'content-type': 'text/plain' } },
  { status: 410, body: '<html>Gone</html>', headers: { 'content-type': 'text/html' } },
  { status: 200, body: '<html>Welcome</html>', headers: { 'content-type': 'text/html' } },
  // The vendor's own words, from a replica that does not know the video yet.
  { status: 404, body: { fault: { kind: 'unknown_clip' } }, headers: {} },
]
for (const [index, page] of pages.entries()) {
  t.test(
    `no video fails or gets stuck while a maintenance page replaces the platform (${index + 1})`,
    async (t) => {
      const gateway = await startGateway(t, {
        policy: { claim: 1_000 },
        tools: { retries: 0, circuit: { failures: 1_000, halfOpenAfter: 100 } },
      })
      const { knobs } = gateway.sandbox
      Object.assign(knobs, { discard: true, processing_delay_ms: 200 })
      const videos = await Promise.all(Array.from({ length: 5 }, () => gateway.create()))
      for (const { id } of videos) t.equal((await gateway.put(id, fakeMp4(1_000))).status, 204)
      knobs.faults.push({ operation: 'get', times: 10, ...page })
      for (const { id } of videos) await gateway.until(id, ({ status }) => status === 'ready')

      const [{ id }] = videos
      knobs.faults.push({ operation: 'delete', times: 1, ...page })
      const { status } = await gateway.call('DELETE', `/v1/videos/${id}`)
      t.equal(status, 502, 'a deletion that did not happen is not acknowledged')
      await until('it is deleted later', () => clipsOn(gateway) === 4)
    },
  )
}

t.test(
  'a video that is ready without metadata fails after its own time limit, with its own code',
  async (t) => {
    const gateway = await startGateway(t)
    gateway.app.gateway.policy.patience.metadata = 500
    gateway.sandbox.knobs.discard = true
    gateway.sandbox.knobs.faults.push({ operation: 'poster', times: 1_000, status: 200, body: {} })
    const { id } = await gateway.create()
    await gateway.put(id, fakeMp4(1_000))
    const { error } = await gateway.until(id, ({ status }) => status !== 'pending')
    t.equal(error.code, 'platform-metadata-missing')
  },
)
