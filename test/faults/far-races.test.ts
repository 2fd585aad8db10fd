import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { fakeMp4, form, startGateway, temporaryDirectory } from '../support/gateway.ts'
import { clipsOf, mismatches, noMismatches, settled } from '../support/settled.ts'
import { yieldingStore } from '../support/yielding-store.ts'

/** Two calls for one video at two gateways, over a store that is far away: whatever comes between them does. */

t.jobs = 4
const count = 40

async function setUp(t: Test) {
  const sandbox = await startSandbox({ knobs: { discard: true, processing_delay_ms: 5 } })
  t.teardown(() => sandbox.close())
  const file = `${await temporaryDirectory(t)}/gateway.db`
  const start = () =>
    startGateway(t, {
      sandbox,
      tools: { settles: [50, 100] },
      policy: { claim: 5_000, uploadLease: 600 },
      env: { DATABASE_URL: `sqlite:${file}` },
      wrapStore: yieldingStore,
    })
  return { sandbox, file, gateways: [await start(), await start()] as const }
}

for (const same of [true, false]) {
  t.test(`uploaded and deleted at once, by ${same ? 'one gateway' : 'two'}`, async (t) => {
    const { sandbox, file, gateways } = await setUp(t)
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
    const rows = await settled(file)
    t.ok(rows.every(({ stage }) => stage === 'deleted'))
    t.strictSame(await clipsOf(sandbox), [], 'nothing is left on the platform')
    t.equal(one.app.gateway.uploads.size + one.app.gateway.works.size, 0)
  })
}

t.test('two uploads at once: one is taken', async (t) => {
  const { sandbox, file, gateways } = await setUp(t)
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
      const taken = sizes.filter((_, index) => answers[index]!.status === 204)
      t.equal(taken.length, 1, JSON.stringify(answers.map(({ body }) => body)))
      await gateways[1].until(id, ({ stage }) => stage === 'ready')
      t.match(await gateways[1].call('GET', `/v1/videos/${id}`), {
        body: { upload: { bytesReceived: taken[0] } },
      })
    }),
  )
  t.strictSame(mismatches(await settled(file), await clipsOf(sandbox)), noMismatches)
})

t.test('one creation with content, sent to both: one video, and both callers hear of it', async (t) => {
  const { sandbox, file, gateways } = await setUp(t)
  const codes = new Set<string>()
  const persist = async (gateway: (typeof gateways)[number], key: string) => {
    for (let attempt = 0; attempt < 100; attempt++) {
      const body = form({ title: key }, fakeMp4(2_000))
      const answer = await gateway.call('POST', '/v1/videos', { body, headers: { 'idempotency-key': key } })
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
  const rows = (await settled(file)).filter(({ stage }) => stage !== 'deleted')
  t.equal(rows.length, count)
  t.strictSame(mismatches(rows, await clipsOf(sandbox)), noMismatches)
})
