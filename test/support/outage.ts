import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { fakeMp4, type TestGateway } from './gateway.ts'

/** Longest time until a call fails because the database is unavailable; twice the limit, for a slow machine. */
export const patienceMs = 5_000

/** Keeps no bytes. */
export async function discardingSandbox(t: Test) {
  const sandbox = await startSandbox({ knobs: { discard: true, processing_delay_ms: 10 } })
  t.teardown(() => sandbox.close())
  return sandbox
}

export interface TimedCall {
  status: number
  ms: number
  retryAfter: string | null
}

/** Retrieves the status of a video, again and again. @returns a function that ends it, with the calls that there were */
export function pollOn(gateway: TestGateway, id: string): () => Promise<TimedCall[]> {
  const calls: TimedCall[] = []
  let over = false
  async function run(): Promise<void> {
    while (!over) {
      calls.push(await timed(gateway, `/v1/videos/${id}/status`))
      await sleep(10)
    }
  }
  const running = run()
  return async () => {
    over = true
    await running
    return calls
  }
}

/** One GET, and how long it took. */
export async function timed(gateway: TestGateway, path: string): Promise<TimedCall> {
  const begun = performance.now()
  const { status, headers } = await gateway.call('GET', path)
  return {
    status,
    ms: performance.now() - begun,
    retryAfter: headers.get('retry-after'),
  }
}

/** An upload whose last part is held back until `finish` is called. */
export function slowUpload(gateway: TestGateway, id: string) {
  const { promise: held, resolve: finish } = Promise.withResolvers<void>()
  const rest = Buffer.alloc(2_000, 0x5a)
  let over = false
  void held.then(() => {
    over = true
  })
  const body = new ReadableStream({
    async start(controller) {
      controller.enqueue(fakeMp4(20_000))
      while (!over) {
        controller.enqueue(rest)
        await Promise.race([held, sleep(50)])
      }
      controller.close()
    },
  })
  return { answer: gateway.put(id, body), finish }
}

/** Waits for a condition, 30 seconds at most. */
export async function until(done: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 30_000; !(await done()); await sleep(20))
    if (Date.now() > deadline) throw new Error('it took too long')
}

export const isReady = async (gateway: TestGateway) =>
  (await gateway.call('GET', '/health/ready')).status === 200
