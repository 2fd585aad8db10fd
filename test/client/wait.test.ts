import { readFileSync } from 'node:fs'
import { mock } from 'node:test'
import { setImmediate, setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { VideoGateway, type WaitOptions } from '../../client/src/index.ts'
import { readRetryAfter } from '../../client/src/problem.ts'
import { startGateway } from '../support/gateway.ts'

type Step = Response | Error
const status = (status: string, retryAfter?: string, error: object | null = null) =>
  Response.json(
    { id: 'x', status, stage: status, error },
    { headers: retryAfter === undefined ? {} : { 'retry-after': retryAfter } },
  )
const problem = (code: string, status: number, retryAfter?: string) =>
  Response.json({ code, detail: code }, { status, headers: retryAfter ? { 'retry-after': retryAfter } : {} })

/** A gateway that answers these, one after the other, and the last one for ever. */
function scripted(steps: Step[]) {
  const asked: number[] = []
  const gateway = new VideoGateway({
    url: 'http://gateway.test',
    token: 'k',
    fetch: async (_url, init) => {
      init?.signal?.throwIfAborted()
      asked.push(Date.now())
      const step = steps.length > 1 ? (steps.shift() as Step) : (steps[0] as Step)
      if (step instanceof Error) throw step
      return step.clone()
    },
  })
  return { gateway, asked }
}

/** Waits with a clock that runs as fast as anybody sleeps. @returns the pauses between two looks in seconds */
async function pauses(t: Test, steps: Step[], options?: WaitOptions) {
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_000_000 })
  t.teardown(() => mock.timers.reset())
  const { gateway, asked } = scripted(steps)
  let settled = false
  const waiting = gateway.waitUntilReady('x', options).finally(() => {
    settled = true
  })
  waiting.catch(() => {})
  while (!settled) {
    await setImmediate()
    mock.timers.tick(500)
  }
  const outcome = await waiting.catch((error) => error)
  mock.timers.reset()
  return { outcome, pauses: asked.slice(1).map((at, i) => Math.round((at - (asked[i] ?? 0)) / 1000)) }
}

t.test('the client waits for Retry-After between requests, in seconds or as a date', async (t) => {
  const date = new Date(1_000_000 + 15_000).toUTCString()
  const steps = [status('pending', '3'), status('pending', '10'), status('pending', date), status('ready')]
  const { outcome, pauses: waited } = await pauses(t, steps)
  t.match(outcome, { status: 'ready' })
  t.strictSame(waited.slice(0, 2), [3, 10])
  t.ok((waited[2] ?? 0) <= 3, 'the date is near by then')
})

t.test('Retry-After is never longer than the gateway’s backoff, not even during a check', async (t) => {
  const gateway = await startGateway(t)
  const { id } = await gateway.create()
  gateway.sandbox.knobs.faults = [
    // The upload asks for the clip too.
    { operation: 'get', times: 1 },
    { operation: 'get', times: 1, delay_ms: 1_000 },
  ]
  await gateway.put(id, readFileSync('sandbox/sample.mp4'))
  const waits: number[] = []
  for (let stage = 'processing'; stage === 'processing'; await sleep(30)) {
    const { body, headers } = await gateway.call('GET', `/v1/videos/${id}/status`)
    stage = body.stage
    if (stage === 'processing') waits.push(Number(headers.get('retry-after')))
  }
  t.ok(waits.length > 5 && waits.every((seconds) => seconds === 1), `${waits}`)
})

t.test('without Retry-After the client waits for a default delay', async (t) => {
  t.strictSame((await pauses(t, [status('pending'), status('ready')])).pauses, [2])
})

t.test('transient errors are retried', async (t) => {
  const steps = [
    new TypeError('fetch failed'),
    problem('platform-throttled', 503, '7'),
    new Response('<html>', { status: 502 }),
    problem('too-many-requests', 429, '4'),
    status('ready'),
  ]
  const { outcome, pauses: waited } = await pauses(t, steps)
  t.match(outcome, { status: 'ready' })
  t.strictSame(waited, [2, 7, 2, 4])
})

t.test('permanent errors are thrown immediately', async (t) => {
  const error = { code: 'platform-processing-failed', message: 'no video in it' }
  const failed = await pauses(t, [status('pending', '1'), status('error', undefined, error)])
  t.match(failed.outcome, { name: 'VideoFailedError', code: error.code, message: error.message })
  t.match(failed.outcome.status, { status: 'error' })
  for (const [code, status] of [
    ['video-not-found', 404],
    ['video-deleted', 410],
  ] as const) {
    const { outcome, pauses: waited } = await pauses(t, [problem(code, status)])
    t.match(outcome, { name: 'GatewayProblem', code, status })
    t.strictSame(waited, [])
  }
})

t.test('a timeout or an abort ends a pause', async (t) => {
  const late = scripted([status('pending', '3600')])
  await t.rejects(late.gateway.waitUntilReady('x', { timeout: 20 }), { name: 'TimeoutError' })
  t.equal(late.asked.length, 1)

  const cancel = new AbortController()
  const onStatus = () => queueMicrotask(() => cancel.abort(new Error('enough')))
  const { gateway } = scripted([status('pending', '3600')])
  await t.rejects(gateway.waitUntilReady('x', { signal: cancel.signal, onStatus }), { message: 'enough' })
  const never = scripted([status('ready')])
  await t.rejects(never.gateway.waitUntilReady('x', { signal: cancel.signal }), { message: 'enough' })
  t.equal(never.asked.length, 0)
})

t.test('Retry-After is a number or a date, and is ignored otherwise', async (t) => {
  for (const [text, seconds] of [
    [null, undefined],
    ['', undefined],
    ['soon', undefined],
    ['0', 0],
    [' 12 ', 12],
    ['Thu, 01 Jan 1970 00:00:00 GMT', 0],
  ] as const) {
    t.equal(readRetryAfter(text), seconds, `${text}`)
  }
})
