import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { FaultRule, Operation } from '../../sandbox/knobs.ts'
import { startSandbox } from '../../sandbox/server.ts'
import { type Engine, engines } from '../support/engines.ts'
import { fakeMp4, form, startGateway, type TestGateway, type TestResponse } from '../support/gateway.ts'
import { clipsOf, mismatches, noMismatches, settled } from '../support/settled.ts'
import { type Failure, yieldingStore } from '../support/yielding-store.ts'

/**
 * Random interleavings: two gateways on one database, callers that go to either and repeat what failed, a platform whose
 * answers are late, lost or wrong, and a store that is far away, and away at any call, before or after its effect. In
 * the end there is nothing on the platform that no row names, no row that names nothing, and no 204 for bytes that were not taken.
 */
const rounds = Number(process.env.INTERLEAVINGS ?? 4)

/** A generator that a seed repeats (mulberry32). */
function randomOf(seed: number) {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

const env = { UPLOAD_IDLE_TIMEOUT: '2s' }
const policy = {
  claim: 700,
  uploadLease: 500,
  patience: {
    processing: 3_600_000,
    gap: 60_000,
    denial: { ms: 1_000, times: 4 },
    metadata: 60_000,
    silence: 3_600_000,
  },
}
const tools = {
  retries: 0,
  settles: [200, 600, 1_200],
  circuit: { failures: 1_000, halfOpenAfter: 100 },
  timeouts: { connect: 300, answer: 300, whole: 500, afterUpload: 500 },
}
const operations: Operation[] = ['create', 'list', 'get', 'ingest', 'media', 'poster', 'delete']

const html = { 'content-type': 'text/html' }

async function setUp(t: Test, engine: Engine, seed: number) {
  const random = randomOf(seed)
  const pick = <T>(choices: readonly T[]) => choices[Math.floor(random() * choices.length)] as T
  const sandbox = await startSandbox({ knobs: { discard: true, processing_delay_ms: 5 } })
  t.teardown(() => sandbox.close())
  const database = await engine.create(t)
  const chaos = { on: true }
  const fails = () => (chaos.on && random() < 0.03 ? pick<Failure>(['before', 'after']) : undefined)
  const start = () =>
    startGateway(t, {
      wrapStore: (store) => yieldingStore(store, fails),
      sandbox,
      policy: structuredClone(policy),
      tools,
      env: { ...env, DATABASE_URL: database.url },
    })
  const gateways = [await start(), await start()]
  const fault = (): FaultRule => ({
    operation: pick(operations),
    times: 1,
    ...pick<Partial<FaultRule>>([
      { status: 500 },
      { status: 404, body: '<html>deploying</html>', headers: html },
      { status: 200, body: '<html>maintenance</html>', headers: html },
      { reset: true },
      { reset: true, late: true },
      { status: 502, late: true },
      { delay_ms: 400 },
      // Longer than the gateway waits: what is done then is done late.
      { delay_ms: 700 },
    ]),
  })
  const misfortune = setInterval(() => {
    if (chaos.on && sandbox.knobs.faults.length < 4) sandbox.knobs.faults.push(fault())
  }, 30)
  t.teardown(() => clearInterval(misfortune))
  return { random, pick, sandbox, gateways, chaos, database }
}

// Each seed has a platform and gateways of its own, and waits most of the time.
t.jobs = 3

for (let round = 0; round < rounds; round++) {
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31)) + round
  const engine = engines[round % engines.length] as Engine
  const options = { timeout: 120_000, buffered: true, skip: engine.skip }
  t.test(`seed ${seed} over ${engine.name}`, options, async (t) => {
    const { random, pick, sandbox, gateways, chaos, database } = await setUp(t, engine, seed)
    /** Bytes that were acknowledged, by video. */
    const taken = new Map<string, number>()
    const deleted = new Set<string>()
    const asked = new Set<string>()
    let size = 1_000

    /** Repeats a call at either gateway until it is answered with one of these statuses; undefined when it is given up. */
    async function persist(wanted: number[], call: (gateway: TestGateway) => Promise<TestResponse>) {
      for (let attempt = 0; attempt < 40; attempt++) {
        const answer = await call(pick(gateways)).catch(() => undefined)
        if (answer && wanted.includes(answer.status)) return answer
        await sleep(20 + random() * 80)
      }
      return undefined
    }

    async function publishOne(name: string): Promise<void> {
      const headers = { 'idempotency-key': name }
      const bytes = ++size
      const withContent = random() < 0.4
      const body = () => form({ title: name }, fakeMp4(bytes))
      const created = await persist([201], (gateway) =>
        withContent
          ? gateway.call('POST', '/v1/videos', { body: body(), ...(random() < 0.7 && { headers }) })
          : gateway.call('POST', '/v1/videos', { json: { title: name }, headers }),
      )
      if (!created) return
      const { id } = created.body
      if (withContent) taken.set(id, bytes)
      else {
        for (let attempt = 0; attempt < 20 && !taken.has(id); attempt++) {
          const now = ++size
          const { status } = await pick(gateways)
            .put(id, fakeMp4(now))
            .catch(() => ({ status: 0 }))
          if (status === 204) taken.set(id, now)
          if (status === 410 || status === 404) break
          await sleep(30)
        }
      }
      if (random() < 0.6) return
      asked.add(id)
      if (await persist([204], (gateway) => gateway.call('DELETE', `/v1/videos/${id}`))) deleted.add(id)
    }

    await Promise.all(
      Array.from({ length: 5 }, async (_, caller) => {
        for (let count = 0; count < 4; count++) await publishOne(`${caller}-${count}`)
      }),
    )
    chaos.on = false
    sandbox.knobs.faults = []
    const rows = await settled(database)

    const clips = await clipsOf(sandbox)
    t.strictSame(mismatches(rows, clips), noMismatches)
    for (const [id, bytes] of taken) {
      const row = rows.find((one) => one.id === id)
      const clip = clips.find(({ clip_id }) => clip_id === row?.slot.videoId)
      if (deleted.has(id)) t.equal(row?.stage, 'deleted')
      // A deletion that no caller heard the end of counts anyway.
      else if (asked.has(id) && row?.stage === 'deleted') t.pass()
      else t.equal(clip?.received_bytes, bytes, 'what was acknowledged was taken')
    }
    t.comment(`${rows.length} rows, ${taken.size} acknowledged, ${deleted.size} deleted`)
  })
}
