import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { fakeMp4, temporaryDirectory } from '../support/gateway.ts'
import { sharedPostgres } from '../support/postgres.ts'
import { type GatewayProcess, startProcess } from '../support/process.ts'
import { beginPut } from '../support/raw.ts'

const hour = 3_600_000
const server = await sharedPostgres()
const postgres = 'unavailable' in server ? undefined : server
const skip = 'unavailable' in server && server.unavailable
t.teardown(() => postgres?.close())

/** Two gateways on one store, one an hour ahead of it and one an hour behind. Leases and claims last 600 ms. */
async function setUp(t: Test, engine: string) {
  const sandbox = await startSandbox({ knobs: { discard: true, processing_delay_ms: 10 } })
  t.teardown(() => sandbox.close())
  const url = engine === 'sqlite' ? `sqlite:${await temporaryDirectory(t)}/gateway.db` : postgres?.newUrl()
  const start = (ahead: number) =>
    startProcess(
      t,
      { SANDBOX_BASE_URL: sandbox.url, DATABASE_URL: url as string, CLOCK_AHEAD: String(ahead) },
      ...['--import', './test/support/shifted-clock.ts', 'test/support/crash-gateway.ts'],
    )
  const gateways = await Promise.all([start(hour), start(-hour)])
  return { sandbox, gateways: gateways as [GatewayProcess, GatewayProcess] }
}

const create = async (gateway: GatewayProcess, headers = {}) =>
  (await gateway.call('POST', '/v1/videos', { title: 'x' }, headers)).body

async function until(gateway: GatewayProcess, id: string, wanted: string) {
  for (const deadline = Date.now() + 20_000; Date.now() < deadline; await sleep(20)) {
    const { body, headers } = await gateway.call('GET', `/v1/videos/${id}/status`)
    if (body.stage === wanted) return body
    const wait = Number(headers.get('retry-after'))
    if (!(wait >= 1 && wait <= 2)) throw new Error(`${body.stage}, Retry-After: ${wait}`)
  }
  throw new Error(`never ${wanted}`)
}

const isNow = (time: string) => Math.abs(Date.parse(time) - Date.now()) < 30_000

for (const engine of ['sqlite', 'postgres'])
  t.test(
    `${engine}: gateways whose clocks differ by two hours behave the same`,
    {
      skip: engine === 'postgres' && skip,
    },
    async (t) => {
      const { sandbox, gateways } = await setUp(t, engine)
      const [ahead, behind] = gateways

      await t.test('the list is newest first across gateways', async (t) => {
        const made: string[] = []
        for (let index = 0; index < 8; index++) {
          const { id, createdAt, updatedAt } = await create(gateways[index % 2] as GatewayProcess)
          made.push(id)
          t.ok(isNow(createdAt) && isNow(updatedAt), 'by the time of the store')
        }
        for (const gateway of gateways) {
          const { items } = (await gateway.call('GET', '/v1/videos')).body
          t.strictSame(
            items.map(({ id }: { id: string }) => id),
            made.toReversed(),
          )
          const pages: string[] = []
          for (let cursor: string | null = ''; cursor !== null; ) {
            const { body } = await gateway.call('GET', `/v1/videos?limit=3${cursor && `&cursor=${cursor}`}`)
            pages.push(...body.items.map(({ id }: { id: string }) => id))
            cursor = body.nextCursor
          }
          t.strictSame(pages, made.toReversed(), 'page by page')
        }
      })

      await t.test('an upload keeps its hold, and both gateways check and return the video', async (t) => {
        for (const [one, other] of [
          [ahead, behind],
          [behind, ahead],
        ] as const) {
          const { id } = await create(one)
          const upload = await beginPut(one.url, id, 100_000)
          upload.write(fakeMp4(50_000))
          while ((await one.call('GET', `/v1/videos/${id}`)).body.upload.bytesReceived < 50_000)
            await sleep(10)
          // Several leases.
          for (let tries = 0; tries < 4; tries++, await sleep(500)) {
            const { status, body } = await other.call('PUT', `/v1/videos/${id}/content`, fakeMp4(1000))
            t.match({ status, body }, { status: 409, body: { code: 'upload-in-progress' } })
          }
          upload.write(Buffer.alloc(50_000))
          t.match(await upload.rest(), /^HTTP\/1\.1 204 /)
          const { checkedAt, nextCheckAt } = await until(other, id, 'ready')
          t.ok(isNow(checkedAt))
          t.equal(nextCheckAt, null)
          t.equal((await one.call('GET', `/v1/videos/${id}/info`)).status, 200)
          const asked = sandbox.stats().calls.get
          await other.call('GET', `/v1/videos/${id}/info`)
          t.equal(sandbox.stats().calls.get, asked, 'its metadata is as fresh for the one as for the other')
        }
      })

      await t.test('an idempotency key is in progress on both gateways, and replayed by both', async (t) => {
        for (const [index, [one, other]] of [
          [ahead, behind],
          [behind, ahead],
        ].entries() as unknown as [number, [GatewayProcess, GatewayProcess]][]) {
          const key = { 'idempotency-key': `k${index}` }
          sandbox.knobs.hold = ['create']
          const first = create(one, key)
          while (sandbox.stats().held_answers === 0) await sleep(10)
          const again = await other.call('POST', '/v1/videos', { title: 'x' }, key)
          t.match(again, { status: 409, body: { code: 'idempotency-key-in-progress' } })
          t.match(again.headers.get('retry-after'), '1')
          sandbox.knobs.hold = []
          const { id } = await first
          const replayed = await other.call('POST', '/v1/videos', { title: 'x' }, key)
          t.match(replayed, { status: 201, body: { id } })
        }
      })

      await t.test('the slot of an upload whose process died is free once the lease expires', async (t) => {
        const { id } = await create(ahead)
        const upload = await beginPut(ahead.url, id, 100_000)
        upload.write(fakeMp4(50_000))
        while ((await ahead.call('GET', `/v1/videos/${id}`)).body.upload.bytesReceived < 50_000)
          await sleep(10)
        await ahead.kill('SIGKILL')
        await until(behind, id, 'awaiting-upload')
        t.equal((await behind.call('PUT', `/v1/videos/${id}/content`, fakeMp4(1000))).status, 204)
        await until(behind, id, 'ready')
        t.equal((await behind.call('DELETE', `/v1/videos/${id}`)).status, 204)
        t.notMatch(behind.output(), /"level":[56]0/, 'no error is logged')
      })
    },
  )
