import { mock } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import t from 'tap'
import { createParser } from '../../client/src/event-stream.ts'
import { GatewayProblem, type StreamedEvent, VideoGateway } from '../../client/src/index.ts'
import { startSandbox } from '../../sandbox/server.ts'
import { hashSecret } from '../../src/auth/credentials.ts'
import { key, startGateway, temporaryDirectory } from '../support/gateway.ts'
import { freePort } from '../support/ports.ts'
import { startProcess } from '../support/process.ts'
import { startTcpProxy } from '../support/tcp-proxy.ts'

/** Everything that waits here ends after this. */
const longest = () => AbortSignal.timeout(30_000)
const titlesOf = (events: StreamedEvent[]) => events.map(({ data }) => data.title)

/** Collects events until one of a video with this title has come. */
async function until(events: AsyncGenerator<StreamedEvent>, title: string): Promise<StreamedEvent[]> {
  const all: StreamedEvent[] = []
  for (;;) {
    const { value, done } = await events.next()
    if (done) throw new Error('the events ended')
    all.push(value)
    if (value.data.title === title) return all
  }
}

t.test('events continue after the gateway was killed and restarted', async (t) => {
  const sandbox = await startSandbox()
  t.teardown(() => sandbox.close())
  const env = {
    DATABASE_URL: `sqlite:${await temporaryDirectory(t)}/gateway.db`,
    SANDBOX_BASE_URL: sandbox.url,
    PORT: String(await freePort()),
  }
  const first = await startProcess(t, env)
  const gateway = new VideoGateway({ url: first.url, token: key })
  const begin = (await gateway.listEvents()).nextCursor
  await gateway.create({ title: 'before' })
  const events = gateway.events({ after: begin, type: 'video.created', signal: longest() })
  const [before] = await until(events, 'before')
  t.match(before, { type: 'video.created', cursor: /^\d+$/, data: { title: 'before' } })
  await first.kill('SIGKILL')
  const next = until(events, 'last')
  await startProcess(t, env)
  // The client is not connected yet, or just now.
  for (const title of ['while away', 'last']) await gateway.create({ title })
  t.strictSame(titlesOf(await next), ['while away', 'last'])
  const again = gateway.events({ after: before?.cursor ?? '', type: 'video.created', signal: longest() })
  t.strictSame(titlesOf(await until(again, 'last')), ['while away', 'last'], 'the cursor can be stored')
  await events.return()
  await again.return()
})

t.test('no event is lost on a network that keeps interrupting connections', async (t) => {
  const { url, create } = await startGateway(t)
  const proxy = await startTcpProxy(t, Number(new URL(url).port))
  const gateway = new VideoGateway({ url: `http://127.0.0.1:${proxy.port}`, token: key })
  const titles = Array.from({ length: 12 }, (_, index) => `video ${index}`)
  const received: string[] = []
  let made = 0
  const events = gateway.events({ after: '0', type: 'video.created', signal: longest() })
  const reading = (async () => {
    for await (const { data } of events) {
      received.push(data.title)
      if (received.length % 4 === 0) proxy.cut()
      if (data.title === titles.at(-1)) return
    }
  })()
  for (; made < titles.length; made++) await create({ title: titles[made] as string })
  await reading
  t.strictSame([...new Set(received)], titles)
})

t.test('events end with an abort, a break or a permanent error', async (t) => {
  const API_KEYS = [
    `test:${hashSecret(key).toString('hex')}`,
    `writer:${hashSecret('writer').toString('hex')}:videos:write`,
  ].join(',')
  const { url, create } = await startGateway(t, { env: { API_KEYS } })
  const first = (token: string, options: object) => new VideoGateway({ url, token }).events(options).next()
  for (const [token, options, status, code] of [
    ['unknown', {}, 401, 'unauthorized'],
    ['writer', {}, 403, 'insufficient-scope'],
    [key, { after: '999999999' }, 410, 'cursor-expired'],
    [key, { after: 'x' }, 400, 'invalid-request'],
  ] as const) {
    const error = await first(token, options).catch((error) => error)
    t.ok(error instanceof GatewayProblem, code)
    t.match(error, { status, code })
  }
  const stop = new AbortController()
  const waiting = first(key, { signal: stop.signal })
  stop.abort(new Error('enough'))
  await t.rejects(waiting, { message: 'enough' })
  await t.rejects(first(key, { signal: AbortSignal.abort(new Error('before')) }), { message: 'before' })
  await create({ title: 'one' })
  for await (const { data } of new VideoGateway({ url, token: key }).events({ after: '0' })) {
    t.equal(data.title, 'one')
    break
  }
  const page = async () => new Response('<html>', { headers: { 'content-type': 'text/html' } })
  const elsewhere = new VideoGateway({ url, token: key, fetch: page }).events()
  await t.rejects(elsewhere.next(), { message: /not an event stream/ })
})

t.test('pauses between connections are bounded', async (t) => {
  const stream = (text: string) => () =>
    new Response(text, { headers: { 'content-type': 'text/event-stream' } })
  const problem = (status: number, retryAfter: string) => () =>
    Response.json({ code: 'x' }, { status, headers: { 'retry-after': retryAfter } })
  const broken = () => {
    throw new TypeError('fetch failed')
  }
  /** Nothing comes, and the connection stays open. */
  const silent = () =>
    new Response(new ReadableStream(), { headers: { 'content-type': 'text/event-stream' } })
  const event = 'id: 7\nevent: video.ready\ndata: {"id":"e"}\n\n'
  /** What the gateway answers first, and the seconds until the next request. */
  const cases: [name: string, steps: (() => Response)[], pauses: [from: number, to: number][]][] = [
    ['ended streams', [stream(event), stream(event), stream(event)], Array(3).fill([1.5, 2])],
    [
      'the pause that the gateway asks for',
      [stream('retry: 10000\n\n'), broken],
      [
        [7.5, 10],
        [15, 20],
      ],
    ],
    ['no longer one than 30 s', [stream('retry: 999000\n\n')], [[22.5, 30]]],
    [
      'failures',
      Array(6).fill(broken),
      [
        [1.5, 2],
        [3, 4],
        [6, 8],
        [12, 16],
        [22.5, 30],
        [22.5, 30],
      ],
    ],
    [
      'an event ends the failures',
      [broken, broken, stream(event)],
      [
        [1.5, 2],
        [3, 4],
        [1.5, 2],
      ],
    ],
    ['Retry-After', [problem(503, '7')], [[7, 7]]],
    ['an hour of it', [problem(429, '3600')], [[60, 60]]],
    ['silence', [silent], [[46.5, 47]]],
  ]
  for (const [name, script, expected] of cases) {
    mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_000_000 })
    t.teardown(() => mock.timers.reset())
    const asked: number[] = []
    const sent: (string | null)[] = []
    const steps = [...script]
    const done = new AbortController()
    const gateway = new VideoGateway({
      url: 'http://gateway.test',
      token: 'k',
      fetch: async (_url, init) => {
        asked.push(Date.now())
        sent.push(new Headers(init?.headers).get('last-event-id'))
        const step = steps.shift()
        if (step) return step()
        done.abort(new Error('done'))
        throw new TypeError('over')
      },
    })
    let ended = false
    const reading = (async () => {
      for await (const _ of gateway.events({ signal: done.signal }));
    })().catch((error) => {
      ended = error.message === 'done'
    })
    for (let ticks = 0; !ended && ticks < 3_000; ticks++) {
      await setImmediate()
      mock.timers.tick(100)
    }
    await reading
    mock.timers.reset()
    const pauses = asked.slice(1).map((at, index) => (at - (asked[index] ?? 0)) / 1000)
    t.equal(pauses.length, expected.length, name)
    // The clock goes in steps, and a response takes a few of them.
    for (const [index, [from, to]] of expected.entries())
      t.ok((pauses[index] ?? 0) >= from - 0.1 && (pauses[index] ?? 0) <= to + 1.5, `${name}: ${pauses}`)
    if (script.includes(stream(event))) t.equal(sent.at(-1), '7')
  }
})

t.test('an event stream is parsed in chunks of any size', async (t) => {
  const text =
    '\uFEFFretry: 10\nid: 1\n\n: heartbeat\nid: 2\n\nid: 3\nevent: x\ndata: a\ndata:b\ndata\n\nid\ndata: ö🎬\nunknown: y\n\nretry: x\ndata: unfinished'
  const expected = [
    { id: '1', data: '', retry: 10 },
    { id: undefined, data: '', retry: undefined },
    { id: '2', data: '', retry: undefined },
    { id: '3', data: 'a\nb\n', retry: undefined },
    { id: '', data: 'ö🎬', retry: undefined },
  ]
  for (const lineBreak of ['\n', '\r\n', '\r'])
    for (const size of [1, 2, 3, 7, 1_000]) {
      const parse = createParser()
      const units = text.replaceAll('\n', lineBreak)
      const blocks = []
      for (let at = 0; at < units.length; at += size) blocks.push(...parse(units.slice(at, at + size)))
      t.strictSame(blocks, expected, `${JSON.stringify(lineBreak)} in chunks of ${size}`)
    }
  const parse = createParser()
  t.throws(() => parse(`data: ${'x'.repeat(1_000_001)}`), /too long/)
})
