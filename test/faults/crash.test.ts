import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type FaultRule, OPERATIONS } from '../../sandbox/knobs.ts'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import { type Line, type Publication, publishThroughCrashes } from '../support/back-office.ts'
import { type Engine, engines } from '../support/engines.ts'
import { fakeMp4, type Json } from '../support/gateway.ts'
import { type GatewayProcess, startProcess } from '../support/process.ts'

/** How often the process is killed at a random moment; `npm run soak` asks for more. */
const kills = Number(process.env.CRASH_KILLS ?? 8)
const script = 'test/support/crash-gateway.ts'
/** The kills of `replicas.test.ts` are over PostgreSQL: here only when asked for. */
const killedEngines = process.env.CRASH_KILLS ? engines : engines.slice(0, 1)
// They wait for holds to end, most of the time.
t.jobs = 3

async function setUp(t: Test, engine: Engine) {
  const sandbox = await startSandbox({ knobs: { discard: true, processing_delay_ms: 10 } })
  t.teardown(() => sandbox.close())
  const database = await engine.create(t)
  // Long enough for a busy machine: a hold that ends under a living process ends its call.
  const holds = { LEASE: '2000', CLAIM: '2000' }
  const start = () =>
    startProcess(t, { SANDBOX_BASE_URL: sandbox.url, DATABASE_URL: database.url, ...holds }, script)
  const clips = () => Object.values(sandbox.stats().clips).reduce((sum, count) => sum + count, 0)
  /** The number of rows in each stage. */
  const stages = async () => {
    const counts: Record<string, number> = {}
    for (const { stage } of await database.rows()) counts[stage] = (counts[stage] ?? 0) + 1
    return counts
  }
  /** Waits until no row is in the middle of something. */
  const settled = async () => {
    for (const deadline = Date.now() + 20_000; Date.now() < deadline; await sleep(30)) {
      const { provisioning = 0, uploading = 0, processing = 0, deleting = 0 } = await stages()
      if (provisioning + uploading + processing + deleting === 0) return
    }
    throw new Error(`rows are stuck: ${JSON.stringify(await stages())}`)
  }
  return { sandbox, start, clips, stages, settled }
}

/** The video that the back office finds by its own reference, if there is one. */
async function byReference(gateway: GatewayProcess): Promise<Json> {
  return (await gateway.call('GET', '/v1/videos?reference=r')).body.items[0]
}

const create = (gateway: GatewayProcess) =>
  gateway.call('POST', '/v1/videos', { title: 'x', reference: 'r' }, { 'idempotency-key': 'k' })

/** Every step of a video's life: the call of the platform during which the process dies, before or after its effect. */
const steps = [
  { name: 'before the platform made the slot', operation: 'create', late: false },
  { name: 'after the platform made the slot', operation: 'create', late: true },
  { name: 'after the last byte of the upload, before its answer', operation: 'ingest', late: true },
  { name: 'in the middle of a poll', operation: 'get', late: false },
  { name: 'in the middle of collecting the metadata', operation: 'media', late: false },
  { name: 'while the thumbnail is collected', operation: 'poster', late: true },
  { name: 'before the platform deleted', operation: 'delete', late: false },
  { name: 'after the platform deleted', operation: 'delete', late: true },
] as const

for (const engine of engines)
  for (const { name, operation, late } of steps) {
    t.test(`killed ${name}, over ${engine.name}`, { buffered: true, skip: engine.skip }, async (t) => {
      const { sandbox, start, clips, stages, settled } = await setUp(t, engine)
      const first = await start()
      /** The upload asks for the clip too, before the poller does. */
      const spared = operation === 'get' ? 1 : 0
      const hold = () =>
        sandbox.knobs.faults.push(...(spared ? [{ operation, times: spared }] : []), {
          operation,
          times: 1,
          delay_ms: 400,
          ...(late && { late, reset: true }),
        })
      const reached = async () => {
        const calls = sandbox.stats().calls[operation]
        for (const deadline = Date.now() + 20_000; sandbox.stats().calls[operation] <= calls + spared; ) {
          if (Date.now() > deadline) throw new Error(`the platform was not called: ${first.output()}`)
          await sleep(5)
        }
        await sleep(late ? 150 : 50)
        await first.kill('SIGKILL')
      }
      const ignore = () => undefined
      if (operation === 'create') hold()
      const creation = create(first).catch(ignore)
      if (operation === 'create') await reached()
      const created = await creation
      // On a slow machine the creation may have been answered before the kill: what follows holds then too.
      const video = operation === 'create' ? undefined : created?.body
      if (video) {
        const path = `/v1/videos/${video.id}`
        hold()
        const killed = operation === 'delete' ? undefined : reached()
        const upload = first.call('PUT', `${path}/content`, fakeMp4(200_000)).catch(ignore)
        if (killed) await killed
        await upload
        if (operation === 'delete') await Promise.all([reached(), first.call('DELETE', path).catch(ignore)])
      }

      const second = await start()
      await settled()
      if (operation === 'create') {
        for (let answer = await create(second); ; answer = await create(second)) {
          if (answer.status === 201) break
          t.equal(answer.status, 409, JSON.stringify(answer.body))
          await sleep(50)
        }
        t.match(await byReference(second), { stage: 'awaiting-upload' })
        t.equal(clips(), 1, 'one slot, however often it was asked for')
      } else if (operation === 'delete') {
        t.match(await second.call('GET', `/v1/videos/${video.id}`), { status: 410 })
        t.equal(clips(), 0)
      } else {
        t.match(await byReference(second), { id: video.id, status: 'ready' })
        t.equal((await second.call('GET', `/v1/videos/${video.id}/thumbnail`)).status, 200)
      }
      t.equal((await stages()).failed, undefined)
    })
  }

/** What goes wrong with a third of the calls of an unsound platform: answers that fail, are lost, or come late. */
const troubles: Partial<FaultRule>[] = [
  { status: 500 },
  { status: 503, headers: { 'retry-after': '1' } },
  { status: 404, body: '<html>deploying</html>', headers: { 'content-type': 'text/html' } },
  { reset: true },
  { reset: true, late: true },
  { status: 502, late: true },
  { delay_ms: 300 },
  { hang: true, stall_ms: 1_000 },
]

/** From now on every third call of the platform, of whatever kind, goes wrong. */
function makeUnsound({ knobs }: Sandbox): void {
  const rules = () => {
    const trouble = troubles[Math.floor(Math.random() * troubles.length)]
    return Math.random() < 1 / 3 ? OPERATIONS.map((operation) => ({ operation, times: 1, ...trouble })) : []
  }
  Object.defineProperty(knobs, 'faults', { configurable: true, get: rules, set() {} })
}

for (const engine of killedEngines)
  for (const sound of [true, false]) {
    const platform = sound
      ? 'a sound platform'
      : 'a platform that fails, loses or delays a third of its answers'
    const timeout = 60_000 + kills * 15_000
    const what = `${kills} kills at random moments lose nothing, with ${platform}, over ${engine.name}`
    t.test(what, { timeout, buffered: true, skip: engine.skip }, async (t) => {
      const { sandbox, start, clips, stages, settled } = await setUp(t, engine)
      if (!sound) makeUnsound(sandbox)
      let gateway: GatewayProcess | undefined = await start()
      const line: Line = {
        get gateway() {
          return gateway
        },
      }
      const publications: Publication[] = []
      const failures: unknown[] = []
      let going = true
      const callers = Array.from({ length: 4 }, async (_, caller) => {
        for (let count = 0; going; count++) {
          const publication: Publication = { key: `p-${caller}-${count}` }
          publications.push(publication)
          await publishThroughCrashes(line, publication, count % 2 === 1).catch((error) =>
            failures.push(error),
          )
        }
      })

      for (let count = 0; count < kills; count++) {
        await sleep(50 + Math.random() * 600)
        const victim = gateway
        gateway = undefined
        await victim?.kill('SIGKILL')
        gateway = await start()
      }
      going = false
      await Promise.all(callers)
      await settled()

      t.same(failures, [], 'every caller got what it asked for')
      t.ok(
        publications.every(({ ready }) => ready),
        `${publications.length} publications became ready`,
      )
      if (sound) t.equal(sandbox.stats().calls.create, publications.length, 'nothing was provisioned twice')
      const kept = publications.filter(({ deleted }) => !deleted)
      for (const deadline = Date.now() + 20_000; clips() !== kept.length && Date.now() < deadline; )
        await sleep(50)
      t.equal(clips(), kept.length, 'the platform holds what was not deleted, and nothing else')
      const { deleted = 0, ...others } = await stages()
      t.strictSame(others, { ready: kept.length }, 'no row is left in the middle')
      t.ok(deleted >= publications.length - kept.length, 'an interrupted creation may leave a tombstone')
      t.comment(`${kills} kills, ${publications.length} publications, 0 lost`)
    })
  }
