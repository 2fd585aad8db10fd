import t from 'tap'
import { GatewayError } from '../../../src/errors.ts'
import { errorForStatus, OutOfResourcesError } from '../../../src/platform/http/failures.ts'
import type { Grant } from '../../../src/platform/http/token-cache.ts'
import { CircuitOpenError } from '../../../src/platform/platform.ts'
import { defaultTools } from '../../../src/platform/tools.ts'
import { fakeClock, pause, setUp } from './token-setup.ts'

t.test('the pause after failed requests doubles, and starts again after a success', async (t) => {
  const clock = fakeClock(t)
  const asked: number[] = []
  let failure: GatewayError | undefined = new GatewayError('platform-unavailable')
  const { cache } = setUp(async () => {
    asked.push(clock.now())
    if (failure) throw failure
    return { accessToken: 'good', expiresIn: 60 }
  })
  const callUntil = async (end: number) => {
    for (; clock.now() < end; clock.set(clock.now() + 500)) await cache.header().catch(() => {})
  }
  await callUntil(120_000)
  t.strictSame(asked.splice(0), [0, 1_000, 3_000, 7_000, 15_000, 31_000, 61_000, 91_000])
  failure = undefined
  await callUntil(122_000)
  t.strictSame(asked.splice(0), [121_000])
  failure = new GatewayError('platform-unavailable')
  clock.set(200_000)
  await callUntil(202_500)
  t.strictSame(asked.splice(0), [200_000, 201_000])
  failure = new GatewayError('platform-throttled', undefined, { retryAfter: 20 })
  await callUntil(230_000)
  t.strictSame(asked.splice(0), [203_000, 223_000], 'as slow as the platform asks for')
})

t.test('a failed early renewal is retried after a pause and does not affect calls', async (t) => {
  const clock = fakeClock(t)
  const asked: number[] = []
  let failure: GatewayError | undefined
  const { cache, logged } = setUp(async () => {
    asked.push(clock.now())
    if (failure) throw failure
    return { accessToken: 'good', expiresIn: 120 }
  })
  const callUntil = async (end: number) => {
    for (; clock.now() < end; clock.set(clock.now() + 500)) {
      t.equal(await cache.header(), 'Bearer good')
      await new Promise(setImmediate)
    }
  }
  await callUntil(500)
  failure = new GatewayError('platform-unavailable')
  clock.set(108_000)
  await callUntil(117_000)
  t.strictSame(asked.splice(0), [0, 108_000, 113_000])
  t.equal(logged.length, 2)
  clock.set(118_000)
  await callUntil(120_000)
  await t.rejects(cache.header(), { code: 'platform-unavailable' })
  t.strictSame(asked.splice(0), [118_000, 120_000], 'at its end again')

  failure = undefined
  clock.set(200_000)
  await callUntil(200_500)
  failure = new GatewayError('platform-throttled', undefined, { retryAfter: 300 })
  clock.set(308_000)
  await callUntil(320_000)
  await t.rejects(
    cache.header(),
    { code: 'platform-throttled', retryAfter: 48 },
    'a minute of the 300 s that it asks for',
  )
  t.strictSame(asked, [200_000, 308_000], 'as slow as the platform asks for')
})

t.test('a delay requested by a token endpoint is at most a minute', async (t) => {
  const clock = fakeClock(t)
  const inAWeek = new Date(Date.now() + 604_800_000).toUTCString()
  for (const [status, retryAfter, pause] of [
    [429, '86400', 60],
    [503, '86400', 60],
    [500, '601', 60],
    [503, inAWeek, 60],
    [429, 'Fri, 01 Jan 2100 00:00:00 GMT', 60],
    [503, '61', 60],
    [503, '60', 60],
    [429, '7', 7],
  ] as const) {
    let wrong = true
    const { cache } = setUp(async () => {
      if (wrong) throw errorForStatus('acme', status, { 'retry-after': retryAfter })
      return { accessToken: 'good', expiresIn: 60 }
    })
    const start = clock.now()
    const code = status === 429 ? 'platform-throttled' : 'platform-unavailable'
    const told = { code, retryAfter: pause }
    await t.rejects(cache.header(), told, `${status} with Retry-After: ${retryAfter}`)
    await t.rejects(cache.header(), told, 'no request in the meantime')
    wrong = false
    clock.set(start + pause * 1000)
    t.equal(await cache.header(), 'Bearer good', 'well a moment later')
  }
})

t.test('a token is used for two seconds at least and a day at most', async (t) => {
  const clock = fakeClock(t)
  const lives: [number | undefined, number][] = [
    [0, 2_000],
    [-1, 2_000],
    [-1e99, 2_000],
    [Number.MIN_VALUE, 2_000],
    [1, 2_000],
    [3, 3_000],
    [86_401, 86_400_000],
    [1e99, 86_400_000],
    [undefined, 86_400_000],
  ]
  for (const [expiresIn, life] of lives) {
    let asked = 0
    const { cache } = setUp(async () => ({ accessToken: `token-${++asked}`, expiresIn }))
    const started = clock.now()
    for (let i = 0; i < 100; i++) await cache.header()
    clock.set(started + life - Math.min(life / 10, 60_000) - 1)
    await cache.header()
    t.equal(asked, 1, `${expiresIn}`)
    clock.set(started + life)
    t.equal(await cache.header(), 'Bearer token-2', `${expiresIn}`)
  }
})

t.test('a token that does not fit in a header is a protocol error', async (t) => {
  for (const accessToken of ['', 'a b', 'a\r\nx: y', 'a\0', 'ä', 'x'.repeat(8193)]) {
    const { cache } = setUp(async () => ({ accessToken, expiresIn: 60 }))
    await t.rejects(cache.header(), { code: 'platform-protocol-error' }, accessToken.slice(0, 10))
  }
})

t.test('a token request has a timeout, and the next one may follow it', async (t) => {
  const signals: AbortSignal[] = []
  const grant: Grant = (_previous, signal) => {
    signals.push(signal)
    return new Promise(() => {})
  }
  const { cache } = setUp(grant, { timeouts: { ...defaultTools.timeouts, whole: 100 } })
  await t.rejects(Promise.all([cache.header(), cache.header()]), { code: 'platform-timeout' })
  t.ok(signals[0]?.aborted)
  await new Promise((resolve) => setTimeout(resolve, 1_050))
  await t.rejects(cache.header(), { code: 'platform-timeout' })
  t.equal(signals.length, 2)
})

t.test('a request that was not sent causes no pause: open circuit, no free socket', async (t) => {
  let asked = 0
  const { cache, outcomes } = setUp(async () => {
    if (++asked < 3) throw new CircuitOpenError('platform-unavailable', 'open', { retryAfter: 10 })
    if (asked < 5) throw new OutOfResourcesError('platform-unavailable', 'no socket', { retryAfter: 10 })
    return { accessToken: 'good', expiresIn: 60 }
  })
  for (let i = 0; i < 4; i++)
    await t.rejects(cache.header(), { code: 'platform-unavailable', retryAfter: 10 })
  t.equal(await cache.header(), 'Bearer good')
  t.strictSame(outcomes, ['ok'], 'only requests count')
})

t.test('a rejected token is replaced immediately, even if its early renewal has just failed', async (t) => {
  const clock = fakeClock(t)
  const asked: number[] = []
  let failure: GatewayError | undefined
  const { cache } = setUp(async () => {
    asked.push(clock.now())
    if (failure) throw failure
    return { accessToken: `token-${asked.length}`, expiresIn: 120 }
  })
  const header = await cache.header()
  clock.set(110_000)
  failure = new GatewayError('platform-unavailable')
  t.equal(await cache.header(), header)
  await pause()
  failure = undefined
  t.equal(cache.invalidate(header), true)
  t.equal(await cache.header(), 'Bearer token-3')
})

t.test('tokens that are rejected as soon as they are issued are replaced after growing pauses', async (t) => {
  const clock = fakeClock(t)
  const asked: number[] = []
  const { cache } = setUp(async () => {
    asked.push(clock.now())
    return { accessToken: `token-${asked.length}`, expiresIn: 3_600 }
  })
  /** Ten calls at once that are all refused, each once more if there is another token. */
  const call = async () => {
    const headers = await Promise.all(Array.from({ length: 10 }, () => cache.header()))
    for (const header of headers) if (cache.invalidate(header)) await cache.header()
  }
  for (; clock.now() < 100_000; clock.set(clock.now() + 500)) await call()
  t.strictSame(asked.splice(0), [0, 0, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 62_000, 92_000])
  clock.set(1_000_000)
  for (let i = 0; i < 4; i++) await call()
  t.strictSame(
    asked,
    [1_000_000, 1_000_000, 1_000_000],
    'after a time without rejections they are replaced immediately',
  )
})
