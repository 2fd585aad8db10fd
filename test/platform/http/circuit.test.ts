import { createServer } from 'node:http'
import { PassThrough, Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { Authorization } from '../../../src/platform/http/http.ts'
import type { PlatformRequest } from '../../../src/platform/http/request.ts'
import { get, listen, post, setUp } from './http-setup.ts'

const pause = 300
/** Until a circuit is tried again. */
const rest = () => sleep(pause + 20)

/** The shared HTTP with its circuit open: two calls have failed. */
async function open(t: Test, { halfOpenAfter = pause, ...options }: Options = {}) {
  const tools = { circuit: { failures: 2, halfOpenAfter }, ...options.tools }
  const setup = await setUp(t, { ...options, tools })
  setup.fail({ status: 503 }, 2)
  for (let i = 0; i < 2; i++) await t.rejects(setup.http.send(post), { message: /503/ })
  t.strictSame(setup.circuits, ['open'])
  return setup
}
type Options = Parameters<typeof setUp>[1] & { halfOpenAfter?: number }

function upload(body: Readable = Readable.from(['content'])): PlatformRequest {
  return { ...get, operation: 'upload', method: 'PUT', body }
}

/** A body whose first bytes are there, and no more. */
function unfinished(): Readable {
  const body = new PassThrough()
  body.write('con')
  return body
}

/** Sends a request that gets no answer, and cuts it once the platform has it. */
async function cut(
  t: Test,
  { http, fail, calls }: Awaited<ReturnType<typeof setUp>>,
  request: PlatformRequest,
) {
  const controller = new AbortController()
  const reason = new Error('enough')
  const before = calls()
  fail({ hang: true })
  const call = http.send({ ...request, signal: controller.signal })
  while (calls() === before) await sleep(5)
  controller.abort(reason)
  await t.rejects(call, reason)
}

t.test('an open circuit rejects every call immediately and says for how long', async (t) => {
  const { http, calls } = await open(t, { halfOpenAfter: 4_500 })
  const chunk = { ...upload(), body: Buffer.from('chunk') }
  for (const request of [get, post, chunk, upload()])
    await t.rejects(http.send(request), { code: 'platform-unavailable', retryAfter: 5 })
  t.equal(calls(), 2)
})

t.test('an upload does not delay the trial call of the circuit', async (t) => {
  for (const first of ['stream', 'chunk']) {
    const { promise: held, resolve: release } = Promise.withResolvers<void>()
    const { http, seen, circuits } = await open(t, {
      tools: { timeouts: { connect: 300, answer: 5_000, whole: 5_000, afterUpload: 5_000 } },
      async handle(exchange) {
        if (exchange.method === 'PUT') await held
        await exchange.body()
        exchange.answer(200, {})
      },
    })
    await rest()
    const uploaded = http.send(first === 'stream' ? upload() : { ...upload(), body: Buffer.from('chunk') })
    while (seen.length === 0) await sleep(5)
    t.match(await http.send(post), { status: 200 }, first)
    t.match(await http.send(get), { status: 200 }, first)
    t.strictSame(circuits, ['open', 'half-open', 'closed'])
    release()
    t.match(await uploaded, { status: 200 })
  }
})

t.test('if there are only uploads, their results keep the circuit open or close it', async (t) => {
  const { http, fail, circuits } = await open(t)
  await rest()
  fail({ status: 503 })
  await t.rejects(http.send(upload()), { message: /503/ })
  await t.rejects(http.send(upload()), { message: /repeatedly/ }, 'the pause starts again')
  await rest()
  await http.send(upload())
  t.strictSame(circuits, ['open', 'half-open', 'open', 'half-open', 'closed'])
})

t.test('uploads that fail open the circuit', async (t) => {
  const { http, fail, circuits } = await setUp(t, { tools: { circuit: { failures: 2, halfOpenAfter: 200 } } })
  fail({ status: 503 })
  await t.rejects(http.send(upload()), { message: /503/ })
  fail({ hang: true, late: true })
  await t.rejects(http.send(upload()), { code: 'platform-timeout' })
  t.strictSame(circuits, ['open'])
})

t.test('a call that is aborted by its caller is neither a success nor a failure', async (t) => {
  for (const request of [get, post, { ...upload(), body: Buffer.from('chunk') }, undefined]) {
    const setup = await setUp(t, { tools: { retries: 0, circuit: { failures: 2, halfOpenAfter: pause } } })
    const { http, fail, circuits } = setup
    const again = () => cut(t, setup, request ?? upload(unfinished()))
    fail({ status: 503 })
    await t.rejects(http.send(post), { message: /503/ })
    await again()
    t.strictSame(circuits, [], 'one failure')
    fail({ status: 503 })
    await t.rejects(http.send(post), { message: /503/ })
    t.strictSame(circuits, ['open'], 'the second since the last answer')

    await rest()
    await again()
    const short = request === get || request === post
    t.equal(circuits.at(-1), short ? 'open' : 'half-open', 'still to be tried')
    await rest()
    await http.send(post)
    t.strictSame(circuits.slice(-2), ['half-open', 'closed'], 'by another call')
  }
})

t.test(
  'earlier responses do not delay the opening, and failures before the closing do not hasten it',
  async (t) => {
    const { http, fail, circuits } = await setUp(t, {
      tools: { retries: 0, circuit: { failures: 2, halfOpenAfter: pause } },
    })
    const failing = async (times: number) => {
      fail({ status: 503 }, times)
      for (let i = 0; i < times; i++) await t.rejects(http.send(get), { message: /503/ })
    }
    for (let i = 0; i < 10; i++) await http.send(get)
    fail({ status: 503 })
    await Promise.allSettled([http.send(post), http.send(post)])
    t.strictSame(circuits, [], 'one of two')
    await failing(1)
    fail({ status: 404 })
    await t.rejects(http.send(get), { code: 'platform-rejected' }, 'an answer too')
    await failing(1)
    t.strictSame(circuits, [])
    await failing(1)
    t.strictSame(circuits, ['open'])
    await rest()
    await http.send(get)
    await failing(1)
    t.strictSame(circuits, ['open', 'half-open', 'closed'])
  },
)

t.test('other calls are rejected immediately while a trial call is in progress', async (t) => {
  const tools = { timeouts: { connect: 5_000, answer: 200, whole: 5_000, afterUpload: 300 } }
  const { http, fail, calls, circuits } = await open(t, { tools })
  await rest()
  fail({ hang: true })
  const trial = http.send(post)
  for (const request of [get, post])
    await t.rejects(http.send(request), { code: 'platform-unavailable', retryAfter: 1 })
  while (calls() < 3) await sleep(5)
  t.match(await http.send(upload()), { status: 200 }, 'uploads are let through next to the trial')
  await t.rejects(trial, { code: 'platform-timeout' }, 'it has its deadline')
  t.equal(calls(), 4)
  t.strictSame(circuits, ['open', 'half-open', 'open'])
})

t.test('a trial with a slowly dripping response reopens the circuit', async (t) => {
  const { http, circuits } = await open(t)
  let drops: NodeJS.Timeout | undefined
  const server = createServer((_request, response) => {
    drops = setInterval(() => response.write(' '), 20)
    t.teardown(() => response.end())
  })
  t.teardown(() => {
    clearInterval(drops)
    server.close()
  })
  const url = await listen(server)
  await rest()
  const controller = new AbortController()
  const trial = http.send({ ...post, url, signal: controller.signal })
  await t.rejects(http.send(post), { message: /repeatedly/ })
  while (circuits.length < 4) await sleep(5)
  t.match(await http.send(post), { status: 200 })
  t.strictSame(circuits, ['open', 'half-open', 'open', 'half-open', 'closed'], 'after another pause')
  controller.abort()
  await t.rejects(trial)
  t.equal(circuits.length, 5)
})

t.test('a login that uses the same HTTP does not wait for the call that waits for it', async (t) => {
  const authorization: Authorization = {
    async header() {
      await http.send({ ...post, operation: 'token', authorized: false })
      return 'Bearer one'
    },
    invalidate: () => true,
  }
  const { http, fail, circuits } = await setUp(t, {
    authorization,
    tools: { circuit: { failures: 2, halfOpenAfter: pause } },
  })
  fail({ status: 503 }, 2)
  for (let i = 0; i < 2; i++) await t.rejects(http.send(post), { message: /503/ })
  await rest()
  t.match(await http.send(post), { status: 200 })
  t.strictSame(circuits, ['open', 'half-open', 'closed'])
})
