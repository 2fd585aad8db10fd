import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { sqliteDatabase } from '../support/database.ts'
import { fakeMp4, form, startGateway, type TestResponse, temporaryDirectory } from '../support/gateway.ts'
import { clipsOf, mismatches, noMismatches, settled } from '../support/settled.ts'
import { type Failure, yieldingStore } from '../support/yielding-store.ts'

/**
 * The life of a publication over a store that is far away, and away for the nth call of it: before its effect, or after
 * it, when only the answer is lost. Whichever call it is, the client repeats what failed and is served in the end, what
 * it was told is true, and nothing is left behind.
 */

// They wait for holds to end, most of the time.
t.jobs = 6

const bytes = 2_000
const policy = { claim: 1_000, uploadLease: 600 }
const tools = { settles: [50, 100] }
/** Calls of the poller and of searches that found nothing come and go: of these only the first ones are tried. */
const idle = ['nextDueAt', 'claimDue', 'claimLeftover', 'expireKeys', 'counts', 'list']

interface Client {
  /** Repeats a call until it is answered with one of these statuses. */
  persist(wanted: number[], call: () => Promise<TestResponse>): Promise<TestResponse>
  key: Record<string, string>
  gateway: Awaited<ReturnType<typeof startGateway>>
}

async function uploaded({ persist, gateway }: Client, id: string): Promise<string> {
  // That an upload has come although its answer was lost is told by 409.
  const { status, body } = await persist([204, 409], () => gateway.put(id, fakeMp4(bytes)))
  if (status === 409 && body.code !== 'content-already-uploaded') {
    await sleep(50)
    return uploaded({ persist, gateway, key: {} }, id)
  }
  return id
}

const lives: Record<string, (client: Client) => Promise<string>> = {
  async 'created, then uploaded'(client) {
    const { persist, gateway, key } = client
    const json = { title: 'News' }
    const { body } = await persist([201], () => gateway.call('POST', '/v1/videos', { json, headers: key }))
    return uploaded(client, body.id)
  },
  async 'created with its content'({ persist, gateway, key: headers }) {
    const call = () =>
      gateway.call('POST', '/v1/videos', { body: form({ title: 'News' }, fakeMp4(bytes)), headers })
    return (await persist([201], call)).body.id
  },
  async 'created with content, of which the platform rejects the first'(client) {
    client.gateway.sandbox.knobs.faults.push({ operation: 'ingest', times: 1, status: 400 })
    return lives['created with its content']!(client)
  },
  async 'uploaded twice, the first time cut by the platform'(client) {
    client.gateway.sandbox.knobs.faults.push({ operation: 'ingest', times: 1, reset: true, after_bytes: 100 })
    return lives['created, then uploaded']!(client)
  },
  async 'uploaded, and the answer is lost'(client) {
    client.gateway.sandbox.knobs.faults.push({ operation: 'ingest', times: 1, reset: true, late: true })
    return lives['created, then uploaded']!(client)
  },
  async deleted(client) {
    const { persist, gateway } = client
    const id = await lives['created, then uploaded']!(client)
    await persist([204], () => gateway.call('DELETE', `/v1/videos/${id}`))
    return id
  },
}

async function setUp(t: Test) {
  const sandbox = await startSandbox({ knobs: { discard: true, processing_delay_ms: 5 } })
  t.teardown(() => sandbox.close())
  const file = `${await temporaryDirectory(t)}/gateway.db`
  /** The call that is to fail, counted down to. */
  let trap: { calls: number; idle: boolean; failure: Failure } | undefined
  const fails = (name: string): Failure | undefined => {
    if (!trap || idle.includes(name) !== trap.idle || trap.calls-- > 0) return undefined
    const { failure } = trap
    trap = undefined
    return failure
  }
  const gateway = await startGateway(t, {
    sandbox,
    tools,
    policy,
    env: { DATABASE_URL: `sqlite:${file}`, RATE_LIMIT: '100000' },
    wrapStore: (store) => yieldingStore(store, fails),
  })
  const persist: Client['persist'] = async (wanted, call) => {
    for (let attempt = 0; attempt < 300; attempt++) {
      const answer = await call()
      if (wanted.includes(answer.status)) return answer
      // 504 when the machine is so slow that a claim ends.
      if (![409, 422, 503, 504].includes(answer.status)) t.match(answer, { status: 503 }, 'may be repeated')
      await sleep(30)
    }
    throw new Error('the client was never served')
  }
  return {
    gateway,
    sandbox,
    file,
    persist,
    set: (next: typeof trap) => {
      trap = next
    },
    isSet: () => trap !== undefined,
  }
}

for (const [name, live] of Object.entries(lives)) {
  t.test(name, { timeout: 120_000 }, async (t) => {
    const { gateway, sandbox, file, persist, set, isSet } = await setUp(t)
    let lives = 0
    /** @returns whether the life had so many calls */
    const failAt = async (calls: number, failure: Failure, idle = false): Promise<boolean> => {
      set({ calls, failure, idle })
      const what = `${idle ? 'idle call' : 'call'} ${calls}, ${failure} its effect`
      const id = await live({ persist, gateway, key: { 'idempotency-key': `${++lives}` } })
      const rows = await settled(sqliteDatabase(file))
      const reached = !isSet()
      set(undefined)
      const clips = await clipsOf(sandbox)
      const row = rows.find((one) => one.id === id)
      const clip = clips.find(({ clip_id }) => clip_id === row?.slot.videoId)
      t.strictSame(mismatches(rows, clips), noMismatches, what)
      t.match(
        { stage: row?.stage, bytes: clip?.received_bytes },
        name === 'deleted' ? { stage: 'deleted' } : { stage: 'ready', bytes },
        what,
      )
      t.equal(clips.length, name === 'deleted' ? 0 : lives, `${what}: one of each`)
      return reached
    }
    for (const failure of ['before', 'after'] as const) {
      let calls = 0
      while (await failAt(calls, failure)) calls++
      t.ok(calls >= 10, `${calls} calls`)
      for (const call of [0, 1, 2]) await failAt(call, failure, true)
    }
  })
}
