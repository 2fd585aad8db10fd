import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { type Engine, engines } from '../support/engines.ts'
import { fakeMp4, form, startGateway, temporaryDirectory } from '../support/gateway.ts'
import { clipsOf, mismatches, noMismatches, settled } from '../support/settled.ts'
import { yieldingStore } from '../support/yielding-store.ts'

/** Two calls for one video at two gateways, over a store that is far away: whatever comes between them does. */

t.jobs = 2
const count = 20

async function setUp(t: Test, engine: Engine) {
  const sandbox = await startSandbox({ knobs: { discard: true, processing_delay_ms: 5 } })
  t.teardown(() => sandbox.close())
  const database = await engine.create(t)
  const start = () =>
    startGateway(t, {
      sandbox,
      tools: { settles: [50, 100] },
      env: { DATABASE_URL: database.url },
      wrapStore: yieldingStore,
    })
  return { sandbox, database, gateways: [await start(), await start()] as const }
}

for (const engine of engines) {
  for (const same of [true, false]) {
    t.test(
      `a concurrent upload and deletion leave nothing, by ${same ? 'one gateway' : 'two'}, over ${engine.name}`,
      { skip: engine.skip },
      async (t) => {
        const { sandbox, database, gateways } = await setUp(t, engine)
        const [one, two] = same ? [gateways[0], gateways[0]] : gateways
        await Promise.all(
          Array.from({ length: count }, async () => {
            const { id } = await one.create()
            const [put, deletion] = await Promise.all([
              one.put(id, fakeMp4(2_000)),
              sleep(Math.random() * 40).then(() => two.call('DELETE', `/v1/videos/${id}`)),
            ])
            t.equal(deletion.status, 204)
            if (put.status !== 204) t.match(put, { status: 410, body: { code: 'video-deleted' } })
          }),
        )
        const rows = await settled(database)
        t.ok(rows.every(({ stage }) => stage === 'deleted'))
        t.strictSame(await clipsOf(sandbox), [], 'nothing is left on the platform')
        t.equal(one.app.gateway.uploads.size + one.app.gateway.works.size, 0)
      },
    )
  }

  t.test(
    `one of two concurrent uploads is accepted, over ${engine.name}`,
    { skip: engine.skip },
    async (t) => {
      const { sandbox, database, gateways } = await setUp(t, engine)
      const taken = new Map<string, number>()
      await Promise.all(
        Array.from({ length: count }, async () => {
          const { id } = await gateways[0].create()
          const sizes = [2_000, 3_000]
          const answers = await Promise.all(
            sizes.map(async (size, index) => {
              await sleep(Math.random() * 20)
              return gateways[index]!.put(id, fakeMp4(size))
            }),
          )
          t.strictSame(answers.map(({ status }) => status).sort(), [204, 409])
          taken.set(id, sizes[answers[0]!.status === 204 ? 0 : 1]!)
        }),
      )
      const rows = await settled(database)
      for (const { id, stage, bytesReceived } of rows)
        t.match({ stage, bytesReceived }, { stage: 'ready', bytesReceived: taken.get(id) })
      t.strictSame(mismatches(rows, await clipsOf(sandbox)), noMismatches)
    },
  )

  t.test(
    `one creation with content sent to two gateways makes one video, and both return it, over ${engine.name}`,
    { skip: engine.skip },
    async (t) => {
      const { sandbox, database, gateways } = await setUp(t, engine)
      const codes = new Set<string>()
      const persist = async (gateway: (typeof gateways)[number], key: string) => {
        for (let attempt = 0; attempt < 100; attempt++) {
          const body = form({ title: key }, fakeMp4(2_000))
          const answer = await gateway.call('POST', '/v1/videos', {
            body,
            headers: { 'idempotency-key': key },
          })
          if (answer.status === 201) return answer.body.id
          codes.add(answer.body.code)
          await sleep(Math.random() * 20)
        }
      }
      // Some uploads fail, so that what they made is taken back.
      sandbox.knobs.faults.push({ operation: 'ingest', times: 15, status: 400 })
      await Promise.all(
        Array.from({ length: count }, async (_, index) => {
          const ids = await Promise.all(
            gateways.map((gateway) => sleep(Math.random() * 60).then(() => persist(gateway, `key-${index}`))),
          )
          t.ok(ids[0])
          t.equal(ids[0], ids[1])
        }),
      )
      t.strictSame([...codes].sort(), ['idempotency-key-in-progress', 'platform-rejected'])
      const rows = (await settled(database)).filter(({ stage }) => stage !== 'deleted')
      t.equal(rows.length, count)
      t.strictSame(mismatches(rows, await clipsOf(sandbox)), noMismatches)
    },
  )
}

/** A gateway whose store lets one kind of call wait, before its effect or after it, until it is let go. */
async function slowGateway(t: Test, options: Parameters<typeof startGateway>[1] = {}) {
  const gateway = await startGateway(t, options)
  const { store } = gateway.app.gateway
  gateway.sandbox.knobs.discard = true
  const arrived = Promise.withResolvers<void>()
  const released = Promise.withResolvers<void>()
  const wait = () => {
    arrived.resolve()
    return released.promise
  }
  return { gateway, store, wait, arrived: arrived.promise, release: released.resolve }
}

t.test('a repeated creation that arrives before the upload of the first one waits for it', async (t) => {
  const env = { DATABASE_URL: `sqlite:${await temporaryDirectory(t)}/gateway.db` }
  const { gateway, store, wait, arrived, release } = await slowGateway(t, { env })
  const other = await startGateway(t, { env, sandbox: gateway.sandbox })
  const { update } = store
  store.update = async (row, ...args) => {
    const id = typeof row === 'string' ? row : row.id
    if ((await store.find(id))?.stage === 'awaiting-upload') await wait()
    return update(row, ...args)
  }
  const post = ({ call }: typeof gateway) =>
    call('POST', '/v1/videos', {
      body: form({ title: 'News' }, fakeMp4(2_000)),
      headers: { 'idempotency-key': 'k' },
    })
  const first = post(gateway)
  await arrived
  t.match(await post(other), { status: 409, body: { code: 'idempotency-key-in-progress' } })
  release()
  const { status, body } = await first
  t.equal(status, 201)
  t.match(await post(other), { status: 201, body: { id: body.id } })
})

t.test('a deletion while an upload is being registered ends the upload before its first byte', async (t) => {
  const { gateway, store, wait, arrived, release } = await slowGateway(t)
  const { id } = await gateway.create()
  const { update } = store
  store.update = async (...args) => {
    const row = await update(...args)
    if (row?.stage === 'uploading') await wait()
    return row
  }
  const put = gateway.put(id, fakeMp4(2_000))
  await arrived
  t.equal((await gateway.call('DELETE', `/v1/videos/${id}`)).status, 204)
  release()
  t.match(await put, { status: 410, body: { code: 'video-deleted' } })
  t.equal(gateway.sandbox.stats().calls.ingest, 0)
})

t.test('a deletion with a late response does not complete another deletion', async (t) => {
  const { gateway, store, wait, arrived, release } = await slowGateway(t)
  const { id } = await gateway.create()
  const { update } = store
  store.update = async (...args) => {
    const row = await update(...args)
    if (row?.stage === 'deleting') await wait()
    return row
  }
  gateway.sandbox.knobs.hold = ['delete']
  const first = gateway.call('DELETE', `/v1/videos/${id}`)
  await arrived
  const second = gateway.call('DELETE', `/v1/videos/${id}`)
  while (gateway.sandbox.stats().held_answers === 0) await sleep(5)
  release()
  await sleep(50)
  gateway.sandbox.knobs.hold = []
  t.strictSame([(await first).status, (await second).status], [204, 204])
})

t.test('a late renewal does not change an upload that has ended', async (t) => {
  const { gateway, store, wait, arrived, release } = await slowGateway(t, {
    policy: { uploadLease: 300 },
    // Nothing else moves the row.
    env: { POLL_INITIAL_DELAY: '1h', POLL_MAX_DELAY: '1h' },
  })
  const { id } = await gateway.create()
  const { plan } = store
  store.plan = async (...args) => {
    await wait()
    return plan(...args)
  }
  gateway.sandbox.knobs.hold = ['ingest']
  const put = gateway.put(id, fakeMp4(2_000))
  await arrived
  gateway.sandbox.knobs.hold = []
  t.equal((await put).status, 204)
  const row = await store.find(id)
  release()
  await sleep(50)
  t.strictSame(await store.find(id), row)
})
