import type { ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import type { Video } from '../../src/publication/video.ts'
import { fakeMp4, startGateway, type TestGateway } from '../support/gateway.ts'
import { secondPlatform, startOddPlatform, stateOf } from '../support/second-platform.ts'
import { aVideo } from '../support/video.ts'

interface Line {
  level: number
  platform?: string
  circuit?: string
  msg: string
}

type Options = NonNullable<Parameters<typeof startGateway>[1]>

/** A gateway in front of a sandbox and of a second platform, and what it logs. */
async function setUp(t: Test, url: string, { policy, ...options }: Options = {}) {
  const lines: Line[] = []
  const gateway = await startGateway(t, {
    platforms: [secondPlatform(url)],
    logger: { level: 'info', stream: { write: (line: string) => void lines.push(JSON.parse(line)) } },
    tools: { retries: 0 },
    ...(policy && { policy }),
    ...options,
  })
  Object.assign(gateway.sandbox.knobs, { discard: true, processing_delay_ms: 5 })
  const { store } = gateway.app.gateway
  const add = (count: number, changes: Partial<Video> = {}) =>
    Promise.all(
      Array.from({ length: count }, async () => {
        const video = aVideo({ platform: 'second', stage: 'processing', nextCheckAt: Date.now(), ...changes })
        await store.insert(video)
        gateway.app.gateway.wakePoller('second', 0)
        return video.id
      }),
    )
  const row = async (id: string) => (await store.find(id)) as Video
  /** Whether something holds for each of these videos. */
  const every = async (ids: string[], holds: (video: Video) => boolean) =>
    (await Promise.all(ids.map(row))).every(holds)
  const failures = () => lines.filter(({ msg }) => msg === 'check failed')
  return { gateway, store, add, row, every, lines, failures }
}

async function until(done: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (const deadline = Date.now() + 20_000; !(await done()); await sleep(10))
    if (Date.now() > deadline) throw new Error(`never: ${what}`)
}

/** The other platform's videos go on: a whole life within the ten seconds that `until` waits. */
async function goesOn(gateway: TestGateway): Promise<void> {
  const { id } = await gateway.create()
  await gateway.put(id, fakeMp4(1000))
  await gateway.until(id, ({ stage }) => stage === 'ready')
}

/** Does something again and again until the client has left. */
const repeat = (ms: number, response: ServerResponse, step: () => void) => {
  const timer = setInterval(step, ms)
  response.once('close', () => clearInterval(timer))
}

const hanging: Record<string, (response: ServerResponse) => void> = {
  'never answers': () => {},
  'sends its body a byte at a time': (response) => {
    response.writeHead(200, { 'content-type': 'application/json' })
    repeat(50, response, () => response.write(' '))
  },
  'sends its headers, and then nothing': (response) => {
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': '100' }).write('{')
  },
  'sends early hints for ever': (response) =>
    repeat(50, response, () => response.writeEarlyHints({ link: '</x>; rel=preload' })),
}

for (const [name, answer] of Object.entries(hanging)) {
  t.test(
    `a platform that ${name}: its checks end with their claims, the checks of others continue`,
    async (t) => {
      const { url, counts } = await startOddPlatform(t, answer)
      const policy = { claim: 1_000 }
      const { gateway, add, every, failures } = await setUp(t, url, {
        env: { POLL_CONCURRENCY: '4' },
        policy,
      })
      const ids = await add(8)
      await until(() => counts.open === 4, 'four calls')
      await goesOn(gateway)
      // Two rounds of four: places are given back, and no video is asked for twice at a time.
      await until(() => every(ids, ({ checks }) => checks > 0), 'every video checked')
      t.equal(counts.most, 4)
      t.ok(await every(ids, ({ stage }) => stage === 'processing'))
      t.equal(failures().length, 1, 'that the platform is in trouble is logged once')
    },
  )

  t.test(`a platform that ${name}: DELETE does not wait, and ends the check`, async (t) => {
    const { url, counts } = await startOddPlatform(t, answer)
    const { gateway, add, row, lines } = await setUp(t, url)
    const [id] = await add(1)
    await until(() => counts.open === 1, 'a call')
    t.equal((await gateway.call('DELETE', `/v1/videos/${id}`)).status, 204)
    await until(() => counts.open === 0, 'the call ended')
    t.match(await row(id!), { stage: 'deleted', nextCheckAt: null })
    t.strictSame(
      lines.filter(({ level }) => level > 30),
      [],
      'nothing to complain about',
    )
  })
}

t.test('an adapter that ignores its signal occupies a place only until the claim expires', async (t) => {
  const { url } = await startOddPlatform(t, (response) => response.end(stateOf('live')))
  const env = { POLL_CONCURRENCY: '1', POLL_INITIAL_DELAY: '1h', POLL_MAX_DELAY: '1h' }
  const { gateway, add, row } = await setUp(t, url, { env, policy: { claim: 300 } })
  const platform = gateway.app.gateway.platforms.get('second')!
  const late = Promise.withResolvers<{ state: 'ready' }>()
  platform.status = () => late.promise
  const [id] = await add(1)
  const [next] = await add(1)
  await until(async () => (await row(next!)).checks === 1, 'the place was given back')
  late.resolve({ state: 'ready' })
  await sleep(100)
  t.match(await row(id!), { stage: 'processing', info: null }, 'what came too late is dropped')
})

t.test('320 videos of a slow platform do not delay the videos of others', async (t) => {
  const { url, counts } = await startOddPlatform(t, (response) =>
    setTimeout(() => response.end(stateOf('transcoding')), 2_500),
  )
  const { gateway, add } = await setUp(t, url)
  await add(320)
  await until(() => counts.open === 32, 'all its places taken')
  await goesOn(gateway)
  t.equal(counts.most, 32, 'POLL_CONCURRENCY at a time')
})

t.test('an open circuit causes no claims, plans and warnings, and closes after one trial', async (t) => {
  let well = false
  const { url, counts } = await startOddPlatform(t, (response) =>
    well ? response.end(stateOf('failed')) : response.writeHead(500).end(),
  )
  const halfOpenAfter = 600
  const { gateway, store, add, every, lines, failures } = await setUp(t, url, {
    tools: { retries: 0, circuit: { failures: 8, halfOpenAfter } },
    env: { POLL_CONCURRENCY: '8' },
  })
  const [claims, plans] = [{ count: 0 }, { count: 0 }]
  const { claimDue, plan } = store
  store.claimDue = async (query) => {
    const rows = await claimDue(query)
    if (query.platform === 'second') claims.count += rows.length
    return rows
  }
  store.plan = async (row, change) => {
    const video = typeof row === 'string' ? await store.find(row) : row
    if (video?.platform === 'second') plans.count += 1
    return plan(row, change)
  }
  const states = () => lines.flatMap(({ circuit }) => (circuit ? [circuit] : []))
  const ids = await add(320)
  await until(() => states().includes('open'), 'the circuit opened')
  // Checks that were under way end by themselves.
  await sleep(100)
  const before = {
    asked: counts.asked,
    claims: claims.count,
    plans: plans.count,
    failures: failures().length,
  }
  await goesOn(gateway)
  await until(() => states().filter((state) => state === 'half-open').length === 3, 'three trials')
  const trials = states().filter((state) => state === 'half-open').length
  t.ok(claims.count - before.claims <= trials, `${claims.count - before.claims} claims`)
  t.ok(plans.count - before.plans <= trials, `${plans.count - before.plans} plans`)
  t.ok(counts.asked - before.asked <= trials, `${counts.asked - before.asked} calls`)
  t.equal(failures().length, before.failures, 'no line for a video')

  well = true
  await until(() => every(ids, ({ stage }) => stage === 'failed'), 'every video looked after')
  t.equal(states().at(-1), 'closed')
  t.equal(lines.filter(({ msg }) => msg === 'the platform responds again').length, 1)
  t.equal(failures().length, 1)
})

t.test('the poller claims nothing once the calls of clients have opened the circuit', async (t) => {
  const { url, counts } = await startOddPlatform(t, (response) => response.writeHead(503).end())
  const { gateway, add, every, lines } = await setUp(t, url, {
    tools: { retries: 0, circuit: { failures: 3, halfOpenAfter: 60_000 } },
  })
  const publish = () => gateway.call('POST', '/v1/videos', { json: { title: 'x', platform: 'second' } })
  while (!lines.some(({ circuit }) => circuit === 'open')) t.equal((await publish()).status, 503)
  const asked = counts.asked
  const due = Date.now() - 1
  const ids = await add(50, { nextCheckAt: due })
  const gone = await add(1, { stage: 'deleting', nextCheckAt: due })
  await goesOn(gateway)
  await sleep(1_500)
  t.equal(counts.asked, asked)
  t.ok(await every([...ids, ...gone], ({ nextCheckAt }) => nextCheckAt === due), 'as they were')
})

t.test('an unavailable token endpoint is logged once, not once per video', async (t) => {
  let well = false
  const { url } = await startOddPlatform(
    t,
    (response) => response.end(stateOf('failed')),
    (response) =>
      well
        ? response
            .setHeader('content-type', 'application/json')
            .end('{"access_token":"a","token_type":"bearer","expires_in":3600}')
        : response.writeHead(500).end(),
  )
  const { gateway, add, every, lines, failures } = await setUp(t, url)
  const ids = await add(50)
  await until(() => every(ids, ({ checks }) => checks > 1), 'every video checked twice')
  await goesOn(gateway)
  t.equal(failures().length, 1)
  well = true
  await until(() => every(ids, ({ stage }) => stage === 'failed'), 'every video looked after')
  t.equal(lines.filter(({ msg }) => msg === 'the platform responds again').length, 1)
})

t.test('rows of a platform that is no longer configured are not claimed', async (t) => {
  const { url } = await startOddPlatform(t, (response) => response.end(stateOf('live')))
  const { gateway, add, row, lines } = await setUp(t, url)
  const due = Date.now() - 60_000
  const stages = ['provisioning', 'uploading', 'processing', 'ready', 'deleting'] as const
  const rows = (
    await Promise.all(stages.map((stage) => add(1, { platform: 'mux', stage, nextCheckAt: due })))
  ).flat()
  const before = await Promise.all(rows.map(row))
  await goesOn(gateway)
  await sleep(1_200)
  t.strictSame(await Promise.all(rows.map(row)), before)
  t.strictSame(
    lines.filter(({ level }) => level > 30),
    [],
  )
})

t.test('videos of two healthy platforms are checked in time', async (t) => {
  const other = await startSandbox({ clientId: 'x', clientSecret: 'y', knobs: { discard: true } })
  t.teardown(() => other.close())
  const { gateway } = await setUp(t, other.url)
  const videos = await Promise.all(
    Array.from({ length: 10 }, (_, index) => gateway.create({ platform: index % 2 ? 'second' : 'sandbox' })),
  )
  await Promise.all(videos.map(({ id }) => gateway.put(id, fakeMp4(1000))))
  await Promise.all(videos.map(({ id }) => gateway.until(id, ({ stage }) => stage === 'ready')))
  t.equal(other.stats().clips.live, 5)
})
