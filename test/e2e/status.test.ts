import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { fakeMp4, startGateway, temporaryDirectory } from '../support/gateway.ts'
import { aVideo } from '../support/video.ts'

const discard = { discard: true, processing_delay_ms: 30 }

t.test('checks happen after growing delays, and nextCheckAt announces the next one', async (t) => {
  const gateway = await startGateway(t, {
    env: { POLL_INITIAL_DELAY: '50ms', POLL_FACTOR: '2', POLL_MAX_DELAY: '10s', POLL_JITTER: '0' },
  })
  Object.assign(gateway.sandbox.knobs, { processing_delay_ms: 60_000 })
  const video = await gateway.create()
  await gateway.put(video.id, fakeMp4(1000))
  const seen: number[] = []
  for (let last = ''; seen.length < 4; await sleep(5)) {
    const { body, headers } = await gateway.call('GET', `/v1/videos/${video.id}/status`)
    t.ok(Number(headers.get('retry-after')) >= 1)
    if (!body.checkedAt || body.checkedAt === last) continue
    last = body.checkedAt
    seen.push(Date.parse(body.nextCheckAt) - Date.parse(body.checkedAt))
  }
  t.strictSame(seen, [100, 200, 400, 800])
})

t.test('a first check that is planned late is not made earlier because of other checks', async (t) => {
  const gateway = await startGateway(t, { env: { POLL_INITIAL_DELAY: '15m' } })
  const video = await gateway.create()
  await gateway.put(video.id, fakeMp4(1000))
  const { store } = gateway.app.gateway
  // Each is done once the poller has looked: whatever was due before it was seen then.
  for (const videoId of ['one', 'two']) {
    const other = aVideo({ stage: 'deleting', slot: { videoId, handle: null }, nextCheckAt: Date.now() })
    await store.insert(other)
    while ((await store.find(other.id))?.stage !== 'deleted') await sleep(10)
  }
  const { body } = await gateway.call('GET', `/v1/videos/${video.id}/status`)
  t.match(body, { stage: 'processing', checkedAt: null })
  t.ok(Date.parse(body.nextCheckAt) > Date.now() + 60_000)
})

t.test('a check waits for the platform’s Retry-After', async (t) => {
  const gateway = await startGateway(t, { tools: { retries: 0 } })
  Object.assign(gateway.sandbox.knobs, discard)
  gateway.sandbox.knobs.faults.push(
    // The upload asks for the clip too.
    { operation: 'get', times: 1 },
    { operation: 'get', times: 1, status: 429, headers: { 'retry-after': '2' } },
  )
  const video = await gateway.create()
  await gateway.put(video.id, fakeMp4(1000))
  const status = await gateway.until(video.id, ({ checkedAt }) => checkedAt)
  t.equal(Date.parse(status.nextCheckAt) - Date.parse(status.checkedAt), 2000)
  t.match(await gateway.until(video.id, ({ status }) => status !== 'pending'), { status: 'ready' })
})

t.test('info and thumbnail are available once a video is ready', async (t) => {
  const gateway = await startGateway(t, { tools: { retries: 0 } })
  Object.assign(gateway.sandbox.knobs, discard)
  for (const operation of ['media', 'poster'] as const) {
    gateway.sandbox.knobs.faults.push(
      { operation, times: 1, status: 500 },
      { operation, times: 1, status: 200, body: {} },
    )
  }
  const video = await gateway.create()
  await gateway.put(video.id, fakeMp4(1000))
  for (let ready = false; !ready; await sleep(3)) {
    ready = (await gateway.call('GET', `/v1/videos/${video.id}`)).body.status === 'ready'
    const answers = await Promise.all(
      ['info', 'thumbnail'].map((what) => gateway.call('GET', `/v1/videos/${video.id}/${what}`)),
    )
    if (ready)
      t.strictSame(
        answers.map(({ status }) => status),
        [200, 200],
      )
  }
  t.equal(gateway.sandbox.stats().calls.media, 5, 'both were asked again until they made sense')
})

t.test('a video fails after PROCESSING_TIMEOUT', async (t) => {
  const gateway = await startGateway(t, { env: { PROCESSING_TIMEOUT: '300ms' } })
  gateway.sandbox.knobs.processing_delay_ms = 60_000
  const video = await gateway.create()
  await gateway.put(video.id, fakeMp4(1000))
  t.match(await gateway.until(video.id, ({ status }) => status !== 'pending'), {
    status: 'error',
    stage: 'failed',
    error: { code: 'processing-timeout' },
    nextCheckAt: null,
  })
})

t.test('a new video that the platform does not know yet is checked again', async (t) => {
  const gateway = await startGateway(t)
  Object.assign(gateway.sandbox.knobs, discard)
  const video = await gateway.create()
  await gateway.put(video.id, fakeMp4(1000))
  gateway.sandbox.knobs.faults.push({ operation: 'get', times: 1, status: 404 })
  t.match(await gateway.until(video.id, ({ status }) => status !== 'pending'), { status: 'ready' })
})

t.test('a video that vanishes from the platform becomes an error', async (t) => {
  const gateway = await startGateway(t)
  gateway.app.gateway.policy.patience.denial = { ms: 300, times: 3 }
  gateway.sandbox.knobs.processing_delay_ms = 60_000
  const video = await gateway.create()
  await gateway.put(video.id, fakeMp4(1000))
  await gateway.sandbox.reset()
  t.match(await gateway.until(video.id, ({ status }) => status !== 'pending'), {
    error: { code: 'platform-video-missing' },
  })
  t.equal(
    (await gateway.call('DELETE', `/v1/videos/${video.id}`)).status,
    204,
    'it can be deleted all the same',
  )
})

t.test('at most POLL_CONCURRENCY checks run concurrently', async (t) => {
  const gateway = await startGateway(t, { env: { POLL_CONCURRENCY: '3' } })
  Object.assign(gateway.sandbox.knobs, discard)
  const videos = await Promise.all(Array.from({ length: 12 }, () => gateway.create()))
  const platform = gateway.app.gateway.platforms.get('sandbox')!
  const { status } = platform
  let [now, most] = [0, 0]
  platform.status = async (...args) => {
    most = Math.max(most, ++now)
    await sleep(20)
    return status.apply(platform, args).finally(() => now--)
  }
  await Promise.all(videos.map(({ id }) => gateway.put(id, fakeMp4(1000))))
  await Promise.all(videos.map(({ id }) => gateway.until(id, ({ status }) => status === 'ready')))
  t.ok(most <= 3, `${most} at once`)
})

t.test('pending videos are checked after a restart', async (t) => {
  const sandbox = await startSandbox({ knobs: { discard: true, processing_delay_ms: 200 } })
  t.teardown(() => sandbox.close())
  const env = { DATABASE_URL: `sqlite:${await temporaryDirectory(t)}/gateway.db` }
  const first = await startGateway(t, { env, sandbox })
  const video = await first.create()
  await first.put(video.id, fakeMp4(1000))
  await first.close()
  const second = await startGateway(t, { env, sandbox })
  t.match(await second.until(video.id, ({ status }) => status !== 'pending'), { status: 'ready' })
})

t.test('a deletion that fails on the platform is retried', async (t) => {
  const gateway = await startGateway(t, { tools: { retries: 0 } })
  const video = await gateway.create()
  gateway.sandbox.knobs.faults.push({ operation: 'delete', times: 1, status: 500 })
  t.match(await gateway.call('DELETE', `/v1/videos/${video.id}`), { status: 503 })
  t.match(
    await gateway.call('GET', `/v1/videos/${video.id}`),
    { status: 410 },
    'for the back office it is gone',
  )
  t.equal((await gateway.call('DELETE', `/v1/videos/${video.id}`)).status, 204)
  t.equal(gateway.sandbox.stats().clips.empty, 0)
})

t.test('a slot that a failed creation left on the platform is found and deleted', async (t) => {
  const gateway = await startGateway(t, { tools: { retries: 0 } })
  gateway.sandbox.knobs.faults.push({ operation: 'create', times: 1, late: true, reset: true })
  t.match(await gateway.call('POST', '/v1/videos', { json: { title: 'lost' } }), { status: 503 })
  for (let left = 1; left > 0; await sleep(10)) left = gateway.sandbox.stats().clips.empty
  t.same((await gateway.call('GET', '/v1/videos')).body.items, [])
})

t.test('a thousand concurrent clients need one token', async (t) => {
  const gateway = await startGateway(t)
  gateway.sandbox.knobs.token_delay_ms = 100
  const platform = gateway.app.gateway.platforms.get('sandbox')!
  const call = { signal: new AbortController().signal, async creating() {}, async keep() {} }
  const draft = (id: number) => ({ id: String(id), title: 'x', description: null, reference: null })
  await Promise.all(Array.from({ length: 1000 }, (_, id) => platform.provision(draft(id), call)))
  t.equal(gateway.sandbox.stats().token_requests, 1)
  t.equal(gateway.sandbox.stats().calls.create, 1000)
  gateway.sandbox.revoke()
  await Promise.all(Array.from({ length: 100 }, (_, id) => platform.provision(draft(id), call)))
  t.equal(gateway.sandbox.stats().token_requests, 2, 'a revoked token is fetched once more')
})
