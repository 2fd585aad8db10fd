import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { fakeMp4, type Json, startGateway, type TestGateway } from '../support/gateway.ts'
import { aVideo } from '../support/video.ts'

type Options = Parameters<typeof startGateway>[1]

/** Short enough that what was read before is old. The poller leaves ready videos alone unless a test lets it. */
const recheck = { interval: 3_600_000, retry: 100, perSecond: 0, missing: { checks: 4, delay: 100 } }
const policy = { metadataWait: 50, recheck }

/** A gateway with one ready video whose metadata is old from the moment it was fetched, unless `maxAge` says more. */
async function setUp(t: Test, { maxAge = '1ms', ...options }: Options & { maxAge?: string } = {}) {
  const gateway = await startGateway(t, {
    env: { METADATA_MAX_AGE: maxAge },
    policy,
    tools: { retries: 0 },
    ...options,
  })
  Object.assign(gateway.sandbox.knobs, { discard: true })
  return { gateway, ...(await publish(gateway)) }
}

async function publish(gateway: TestGateway) {
  const { id } = await gateway.create()
  await gateway.put(id, fakeMp4(1000))
  await gateway.until(id, ({ stage }) => stage === 'ready')
  const row = async () => (await gateway.app.gateway.store.find(id))!
  const read = (what: 'info' | 'thumbnail' | '') =>
    gateway.call('GET', `/v1/videos/${id}${what && `/${what}`}`)
  /** Reads the URL of the thumbnail and follows it: a dead one is not 200. */
  const follow = async () => (await fetch((await read('thumbnail')).body.url)).status
  /** Time enough for the next reader to have the platform asked again. */
  const later = () => sleep(policy.metadataWait + 20)
  await later()
  return { id, row, read, follow, later }
}

/** Every reader must be answered with 200, whatever the platform does. */
async function readsKnown(t: Test, read: (what: 'info' | 'thumbnail') => Promise<Json>, name: string) {
  const answers = [await read('info'), await read('thumbnail')]
  t.strictSame(
    answers.map(({ status }) => status),
    [200, 200],
    name,
  )
  return answers.map(({ body }) => body.launchUrl ?? body.url)
}

t.test('new URLs of a playlist and image are stored, and updatedAt changes', async (t) => {
  const { gateway, read, follow, later, row } = await setUp(t)
  const before = await row()
  t.equal(await follow(), 200)
  await later()
  const { updatedAt } = await row()
  t.equal(updatedAt, before.updatedAt, 'the same metadata again is no change')
  gateway.sandbox.knobs.rename = 'v2_'
  t.match((await read('info')).body.launchUrl, /\/v2_playlist\.m3u8$/)
  t.equal(await follow(), 200)
  t.match(await row(), { stage: 'ready', info: { launchUrl: /v2_/ }, thumbnail: { url: /v2_/ } })
  t.ok((await row()).updatedAt > updatedAt)
  t.equal((await read('')).body.updatedAt, new Date((await row()).updatedAt).toISOString())
})

t.test('before METADATA_MAX_AGE the platform is not called', async (t) => {
  const { gateway, read, row } = await setUp(t, { maxAge: '1h' })
  const asked = () => gateway.sandbox.stats().calls.media
  const before = asked()
  for (let count = 0; count < 5; count++) await read('info')
  t.equal(asked(), before)
  for (const fetchedAt of [
    (await row()).fetchedAt! - 3_600_000,
    (await row()).fetchedAt! + 3_600_000,
    null,
    undefined,
  ]) {
    const calls = asked()
    await gateway.app.gateway.store.update((await row()).id, (current) => ({
      ...current,
      fetchedAt: fetchedAt as null,
    }))
    await sleep(policy.metadataWait + 20)
    t.equal((await read('info')).status, 200)
    t.equal(asked(), calls + 1, `fetched at ${fetchedAt}: older, from a clock that was ahead, or never told`)
  }
})

t.test('a signed URL is replaced before it expires, at any age', async (t) => {
  const { gateway, read, follow, later } = await setUp(t, { maxAge: '24d' })
  const asked = () => gateway.sandbox.stats().calls.poster
  gateway.sandbox.knobs.url_lifetime_s = 61
  await gateway.app.gateway.store.update((await read('')).body.id, (current) => ({
    ...current,
    fetchedAt: 0,
  }))
  const { body } = await read('thumbnail')
  t.match(body.url, /signature=/)
  t.notOk('validUntil' in body, 'its end is no part of the API')
  t.notOk('validUntil' in (await read('info')).body)
  const calls = asked()
  await later()
  t.equal(await follow(), 200)
  t.equal(asked(), calls, 'more than a minute of its life is left')
  await sleep(1_000)
  const next = (await read('thumbnail')).body.url
  t.not(next, body.url, 'less than a minute is left')
  t.equal(asked(), calls + 1)
  t.equal(await follow(), 200)
})

t.test('fifty concurrent readers cause one call and get the new URL', async (t) => {
  // Time enough for a slow machine.
  const { gateway, id, read, later } = await setUp(t, { policy: { ...policy, metadataWait: 20_000 } })
  await gateway.app.gateway.store.plan(id, (current) => ({ ...current, checkedAt: 0 }))
  const { calls } = gateway.sandbox.stats()
  gateway.sandbox.knobs.rename = 'v2_'
  gateway.sandbox.knobs.hold = ['media']
  const readers = Array.from({ length: 50 }, (_, index) => read(index % 2 ? 'info' : 'thumbnail'))
  while (gateway.sandbox.stats().held_answers === 0) await sleep(5)
  await later()
  gateway.sandbox.knobs.hold = []
  for (const { status, body } of await Promise.all(readers)) {
    t.equal(status, 200)
    t.match(body.launchUrl ?? body.url, /v2_/)
  }
  t.equal(gateway.sandbox.stats().calls.media, calls.media + 1)
  t.equal(gateway.sandbox.stats().calls.poster, calls.poster + 1)
})

const outages = {
  'answers 500': { status: 500 },
  'answers 503 with Retry-After': { status: 503, headers: { 'retry-after': '3600' } },
  throttles: { status: 429 },
  'refuses our token': { status: 403 },
  'answers 404, as a proxy while it is deployed': { status: 404, body: '<html>' },
  'answers something else than JSON': { status: 200, body: '<html>' },
  'answers JSON that does not fit': { status: 200, body: {} },
  'says that it is not live': { status: 409 },
  'redirects, as after a move': { status: 308, headers: { location: 'http://127.0.0.1:9/moved' } },
  'cuts the connection': { reset: true },
  'never answers': { hang: true },
} as const

for (const operation of ['media', 'poster'] as const) {
  t.test(`while ${operation} fails, stored metadata is returned; afterwards the new URL`, async (t) => {
    const timeouts = { connect: 1_000, answer: 1_000, whole: 10_000, afterUpload: 1_000 }
    const circuit = { failures: 1_000, halfOpenAfter: 100 }
    const { gateway, read, follow, later, row } = await setUp(t, { tools: { retries: 0, timeouts, circuit } })
    let round = 0
    for (const [name, outage] of Object.entries(outages)) {
      gateway.sandbox.knobs.faults = [{ operation, times: 1_000, ...outage }]
      const known = await readsKnown(t, read, name)
      gateway.sandbox.knobs.rename = `r${round++}_`
      await later()
      t.equal((await row()).stage, 'ready', name)
      const stale = await readsKnown(t, read, name)
      t.equal(stale[operation === 'media' ? 0 : 1], known[operation === 'media' ? 0 : 1], `${name}: as known`)
      gateway.sandbox.knobs.faults = []
      // One that hangs is over when the adapter gives up.
      for (let tries = 0; (await follow()) !== 200 && tries < 200; tries++) await sleep(50)
      t.equal(await follow(), 200, `${name}: and back`)
    }
    t.equal((await row()).error, null)
  })
}

t.test('stored metadata is returned immediately if the platform is unreachable', async (t) => {
  const { gateway, read, later } = await setUp(t)
  await gateway.sandbox.close()
  for (let round = 0; round < 3; round++) {
    await readsKnown(t, read, 'nobody listens')
    await later()
  }
})

t.test('a slow platform delays readers up to a limit, and is called once', async (t) => {
  const { gateway, read, row } = await setUp(t, { policy: { ...policy, metadataWait: 300 } })
  await sleep(350)
  const calls = gateway.sandbox.stats().calls.media
  gateway.sandbox.knobs.rename = 'v2_'
  gateway.sandbox.knobs.hold = ['media']
  for (let round = 0; round < 20; round++) {
    const { status, body } = await read('info')
    t.equal(status, 200)
    t.match(body.launchUrl, /\/playlist/, 'the answer is held back still')
  }
  t.equal(gateway.sandbox.stats().calls.media, calls + 1)
  gateway.sandbox.knobs.hold = []
  for (let tries = 0; tries < 200 && !/v2_/.test((await row()).info!.launchUrl); tries++) await sleep(20)
  t.match((await read('info')).body.launchUrl, /v2_/, 'what came late is used')
})

t.test('a deletion during a refresh returns 204 immediately, and the reader gets 410', async (t) => {
  const { gateway, id, read, row } = await setUp(t, { policy: { ...policy, metadataWait: 20_000 } })
  await gateway.app.gateway.store.plan(id, (current) => ({ ...current, checkedAt: 0 }))
  gateway.sandbox.knobs.hold = ['media']
  const reading = read('info')
  while (gateway.sandbox.stats().held_answers === 0) await sleep(5)
  t.equal((await gateway.call('DELETE', `/v1/videos/${id}`)).status, 204)
  t.match(await reading, { status: 410, body: { code: 'video-deleted' } })
  const tombstone = await row()
  t.match(tombstone, { stage: 'deleted', nextCheckAt: null })
  gateway.sandbox.knobs.hold = []
  await sleep(100)
  t.strictSame(await row(), tombstone)
})

t.test('stored metadata is returned for a platform that is no longer configured', async (t) => {
  const { gateway } = await setUp(t)
  const { info, thumbnail } = (await gateway.app.gateway.store.list({ status: 'ready', limit: 1 }))[0]!
  const other = aVideo({ stage: 'ready', platform: 'mux', info, thumbnail })
  await gateway.app.gateway.store.insert(other)
  t.equal((await gateway.call('GET', `/v1/videos/${other.id}/info`)).status, 200)
})

t.test('concurrent reads of many old videos cause at most POLL_CONCURRENCY concurrent calls', async (t) => {
  const { gateway, row } = await setUp(t, {
    env: { METADATA_MAX_AGE: '1ms', POLL_CONCURRENCY: '3' },
    policy: { ...policy, metadataWait: 20_000 },
  })
  const platform = gateway.app.gateway.platforms.get('sandbox')!
  const { info } = platform
  let [now, most] = [0, 0]
  platform.info = async (...args) => {
    most = Math.max(most, ++now)
    await sleep(10)
    return info.apply(platform, args).finally(() => now--)
  }
  const { slot, info: known, thumbnail } = await row()
  const videos = Array.from({ length: 30 }, () => aVideo({ stage: 'ready', slot, info: known, thumbnail }))
  for (const video of videos) await gateway.app.gateway.store.insert(video)
  gateway.sandbox.knobs.rename = 'v2_'
  const answers = await Promise.all(videos.map(({ id }) => gateway.call('GET', `/v1/videos/${id}/info`)))
  for (const { status, body } of answers)
    t.match({ status, url: body.launchUrl }, { status: 200, url: /v2_/ })
  t.equal(most, 3)
})

t.test('the poller refreshes metadata that no client reads', async (t) => {
  const often = { ...recheck, perSecond: 4, interval: 200 }
  const { gateway, id, row } = await setUp(t, { policy: { ...policy, recheck: often } })
  const wait = async (done: () => boolean | Promise<boolean>) => {
    for (const deadline = Date.now() + 20_000; !(await done()); await sleep(10))
      if (Date.now() > deadline) throw new Error(`still ${JSON.stringify(await row())}`)
  }

  await t.test('new URLs are stored, also in rows from before this check existed', async (t) => {
    await gateway.app.gateway.store.update(id, ({ fetchedAt: _, ...old }) => ({ ...old, nextCheckAt: null }))
    gateway.sandbox.knobs.rename = 'v2_'
    await wait(async () => /v2_/.test((await row()).info!.launchUrl))
    t.match(await row(), { stage: 'ready', checks: 0, thumbnail: { url: /v2_/ } })
  })

  await t.test('a video that is missing for a while stays ready', async (t) => {
    gateway.sandbox.knobs.faults = [{ operation: 'media', times: 3, status: 404 }]
    await wait(async () => (await row()).checks === 3)
    t.equal((await row()).stage, 'ready', 'three answers are not four')
    await wait(async () => (await row()).checks === 0)
    t.equal((await gateway.call('GET', `/v1/videos/${id}/info`)).status, 200)
  })

  await t.test('a 404 during a read does not fail the video', async (t) => {
    gateway.sandbox.knobs.faults = [{ operation: 'media', times: 10, status: 404 }]
    for (let round = 0; round < 10; round++, await sleep(5))
      t.equal((await gateway.call('GET', `/v1/videos/${id}/info`)).status, 200)
    gateway.sandbox.knobs.faults = []
    await wait(async () => (await row()).checks === 0)
    t.equal((await row()).stage, 'ready')
  })

  await t.test('an outage does not fail the video', async (t) => {
    gateway.sandbox.knobs.faults = [{ operation: 'media', times: 6, status: 500 }]
    await wait(() => gateway.sandbox.knobs.faults.length === 0)
    t.match(await row(), { stage: 'ready', checks: 0 })
  })

  await t.test('a video that is gone from the platform becomes an error with its code', async (t) => {
    await gateway.sandbox.reset()
    const status = await gateway.until(id, ({ stage }) => stage !== 'ready')
    t.match(status, { status: 'error', stage: 'failed', error: { code: 'platform-video-missing' } })
    t.match(await row(), { info: null, thumbnail: null, nextCheckAt: null })
    t.match(await gateway.call('GET', `/v1/videos/${id}/info`), {
      status: 409,
      body: { code: 'video-not-ready' },
    })
    t.equal((await gateway.call('DELETE', `/v1/videos/${id}`)).status, 204)
    const { body } = await gateway.call('GET', '/metrics')
    t.match(body, /gateway_metadata_refreshes_total\{platform="sandbox",outcome="changed"\} [1-9]/)
    t.match(body, /gateway_metadata_refreshes_total\{platform="sandbox",outcome="missing"\} [1-9]/)
  })
})

t.test('many ready videos are checked at a limited rate, after pending ones', async (t) => {
  const gateway = await startGateway(t, { policy: { ...policy, recheck: { ...recheck, perSecond: 4 } } })
  Object.assign(gateway.sandbox.knobs, { discard: true })
  const { slot, info, thumbnail } = await (await publish(gateway)).row()
  for (let count = 0; count < 2_000; count++)
    await gateway.app.gateway.store.insert(aVideo({ stage: 'ready', slot, info, thumbnail }))
  const started = performance.now()
  const before = gateway.sandbox.stats().calls.media
  await sleep(2_500)
  const { id } = await gateway.create()
  await gateway.put(id, fakeMp4(1000))
  await gateway.until(id, ({ stage }) => stage === 'ready')
  const checks = gateway.sandbox.stats().calls.media - before - 1
  const seconds = (performance.now() - started) / 1000
  t.ok(checks >= 4 && checks <= 4 * (seconds / 0.9 + 1), `${checks} checks in ${seconds.toFixed(1)} s`)
})
