import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { startDouble as startApiVideo } from '../platform/doubles/api-video.ts'
import { startDouble as startCloudflare } from '../platform/doubles/cloudflare-stream.ts'
import { clipsOn, fakeMp4, startGateway, type TestGateway } from '../support/gateway.ts'

/** What may exist is not forgotten: creations whose answers were late or lost. */

const tools = {
  retries: 0,
  settles: [200, 400, 800],
  circuit: { failures: 1_000, halfOpenAfter: 100 },
  timeouts: { connect: 500, answer: 400, whole: 800, afterUpload: 1_000 },
}

async function until(what: string, done: () => unknown): Promise<void> {
  for (const deadline = Date.now() + 20_000; Date.now() < deadline; await sleep(20)) if (await done()) return
  throw new Error(`never: ${what}`)
}

const count = async ({ call }: TestGateway, metric: string) =>
  Number(new RegExp(`^${metric}\\{.*\\} (\\d+)$`, 'm').exec((await call('GET', '/metrics')).body)?.[1] ?? 0)

t.test('a slot that the platform creates after the call timed out is deleted', async (t) => {
  const gateway = await startGateway(t, { tools })
  const { sandbox } = gateway
  const cases: [string, () => void][] = [
    ['the answer comes too late', () => sandbox.knobs.hold.push('create')],
    [
      'the connection is cut',
      () => sandbox.knobs.faults.push({ operation: 'create', times: 1, reset: true, late: true }),
    ],
    [
      'a proxy answers 502',
      () => sandbox.knobs.faults.push({ operation: 'create', times: 1, status: 502, late: true }),
    ],
    [
      'a proxy answers a page',
      () =>
        sandbox.knobs.faults.push({ operation: 'create', times: 1, status: 200, body: '<html>', late: true }),
    ],
  ]
  for (const [index, [name, fail]] of cases.entries()) {
    fail()
    const { status } = await gateway.call('POST', '/v1/videos', { json: { title: name } })
    t.ok(status >= 500, `${name}: ${status}`)
    sandbox.knobs.hold = []
    await until(
      `${name}: it is removed`,
      async () => (await count(gateway, 'gateway_leftovers_removed_total')) === index + 1,
    )
    t.equal(clipsOn(gateway), 0)
  }
  t.strictSame((await gateway.call('GET', '/v1/videos')).body.items, [])
  t.equal(await count(gateway, 'gateway_orphaned_slots_total'), 0)
})

t.test('no search follows a rejected creation', async (t) => {
  const gateway = await startGateway(t, { tools })
  for (const status of [400, 401, 403, 422, 429]) {
    gateway.sandbox.knobs.faults.push({ operation: 'create', times: 2, status })
    t.ok((await gateway.call('POST', '/v1/videos', { json: { title: 'x' } })).status >= 422, String(status))
    gateway.sandbox.knobs.faults = []
  }
  await sleep(1_000)
  t.equal(gateway.sandbox.stats().calls.list, 0)
})

for (const [name, start] of [
  ['cloudflare-stream', startCloudflare],
  ['api-video', startApiVideo],
] as const) {
  t.test(
    `${name}: a video whose creation response was lost is deleted, the next upload's video stays`,
    async (t) => {
      const double = await start()
      t.teardown(() => double.close())
      const gateway = await startGateway(t, { tools, env: { PLATFORM: name, ...double.variables } })
      const video = await gateway.create()
      if (!double.provisionsAtUpload) {
        // A slot that was touched is made anew at the next upload.
        double.fail('upload', { status: 400, body: {} })
        t.equal((await gateway.put(video.id, fakeMp4(1_000))).status, 422)
      }
      double.fail('provision', { reset: { afterBytes: 0 }, late: true })
      t.equal((await gateway.put(video.id, fakeMp4(1_000))).status, 503)
      t.equal((await gateway.put(video.id, fakeMp4(2_000))).status, 204)
      await until('the first is removed', () => double.leftovers() === 1)
      await sleep(1_500)
      t.equal(double.leftovers(), 1, 'and the second is not')
      double.finish(video.title)
      await gateway.until(video.id, ({ status }) => status === 'ready')
      t.equal((await gateway.call('DELETE', `/v1/videos/${video.id}`)).status, 204)
      t.equal(double.leftovers(), 0)
    },
  )
}

t.test('a leftover that cannot be searched for is counted', async (t) => {
  const gateway = await startGateway(t, { tools })
  const { store } = gateway.app.gateway
  const { claimLeftover } = store
  // As if it had been tried for a day.
  store.claimLeftover = async (...args) => {
    const leftover = await claimLeftover(...args)
    return leftover && { ...leftover, createdAt: 0 }
  }
  gateway.sandbox.knobs.faults.push(
    { operation: 'create', times: 1, reset: true, late: true },
    { operation: 'list', times: 100, status: 500 },
  )
  t.equal((await gateway.call('POST', '/v1/videos', { json: { title: 'x' } })).status, 503)
  await until('it is given up', async () => (await count(gateway, 'gateway_orphaned_slots_total')) === 1)
})
