import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { hashSecret } from '../../src/auth/credentials.ts'
import type { Video } from '../../src/publication/video.ts'
import { openStream } from '../support/event-stream.ts'
import { fakeMp4, type Json, key, startGateway, type TestGateway } from '../support/gateway.ts'

const sandbox = await startSandbox({ knobs: { discard: true, processing_delay_ms: 20 } })
t.teardown(() => sandbox.close())
/** Each test has its own, so that it sees its own events alone, also where tests run side by side. */
const start = (t: Test, streamLimits = { total: 50, perClient: 50 }) =>
  startGateway(t, {
    sandbox,
    streamLimits,
    env: { API_KEYS: `test:${hash(key)},other:${hash('vgk_other')}` },
  })
const hash = (secret: string) => hashSecret(secret).toString('hex')
const typesOf = (items: Json[]) => items.map(({ type }) => type)

async function published(gateway: TestGateway): Promise<string> {
  const { id } = await gateway.create()
  await gateway.put(id, fakeMp4(2_000))
  await gateway.until(id, ({ status }) => status === 'ready')
  return id
}

t.test('the feed has the events of a video, and can be read from any cursor', async (t) => {
  const gateway = await start(t)
  const { call } = gateway
  const begin = (await call('GET', '/v1/events?limit=200')).body.nextCursor
  const id = await published(gateway)
  await call('DELETE', `/v1/videos/${id}`)
  const { body } = await call('GET', `/v1/events?after=${begin}&limit=200`)
  const types = typesOf(body.items).filter(
    (type, index, all) => type !== 'video.updated' || all[index - 1] !== type,
  )
  t.strictSame(
    types.filter((type) => type !== 'video.updated'),
    ['video.created', 'video.uploaded', 'video.ready', 'video.deleted'],
  )
  const ready = body.items.find(({ type }: Json) => type === 'video.ready')
  t.match(ready.data, {
    id,
    status: 'ready',
    info: { duration: Number },
    thumbnail: { url: /^http/ },
    progress: null,
  })
  const versions = body.items.map(({ data }: Json) => data.version)
  t.strictSame(
    versions,
    versions.toSorted((a: number, b: number) => a - b),
  )
  const paged: Json[] = []
  for (let after = begin; ; ) {
    const page = (await call('GET', `/v1/events?limit=2&after=${after}`)).body
    paged.push(...page.items)
    after = page.nextCursor
    if (page.items.length === 0) break
  }
  t.strictSame(paged, body.items)
  const only = (query: string) => call('GET', `/v1/events?after=${begin}&${query}`)
  t.strictSame(typesOf((await only('type=video.ready')).body.items), ['video.ready'])
  t.strictSame((await only(`video=${id}`)).body.items, body.items)
  t.strictSame((await only('video=none')).body, { items: [], nextCursor: body.nextCursor })
  t.strictSame(typesOf((await only(`video=${id}&type=video.deleted`)).body.items), ['video.deleted'])
})

t.test('an invalid or expired cursor is rejected with the reason', async (t) => {
  const { call, url } = await start(t)
  for (const [path, status, code] of [
    ['/v1/events?after=x', 400, 'invalid-request'],
    ['/v1/events?after=-1', 400, 'invalid-request'],
    ['/v1/events?after=1e3', 400, 'invalid-request'],
    ['/v1/events?type=video.lost', 400, 'invalid-request'],
    ['/v1/events?limit=0', 400, 'invalid-request'],
    ['/v1/events?unknown=1', 400, 'invalid-request'],
    ['/v1/events?after=999999999999', 410, 'cursor-expired'],
  ] as const)
    t.match(await call('GET', path), { status, body: { code } }, path)
  t.match(await openStream(t, url, '?after=999999999999'), { status: 410 })
  t.match(await openStream(t, url, '', { authorization: 'Bearer none' }), { status: 401 })
})

t.test('Accept chooses between page and stream', async (t) => {
  const { url } = await start(t)
  for (const [accept, type] of [
    ['*/*', /json/],
    ['application/json', /json/],
    ['text/html, */*', /json/],
    ['text/event-stream;q=0', /json/],
    ['application/json, text/event-stream;q=0.5', /json/],
    ['text/event-stream', /event-stream/],
    ['Text/Event-Stream, */*', /event-stream/],
    ['application/json;q=0.1, text/event-stream;q=0.2', /event-stream/],
  ] as const) {
    const stream = await openStream(t, url, '', { accept })
    t.match(stream.headers.get('content-type'), type, accept)
    stream.close()
  }
})

t.test('a stream sends events, and continues after the last event that was received', async (t) => {
  const gateway = await start(t)
  const { url } = gateway
  const all = await openStream(t, url)
  t.match(all, { status: 200, headers: { get: Function } })
  t.match(all.headers.get('cache-control'), /no-store/)
  const first = await all.until(({ text }) => /^retry: \d+\nid: \d+$/.test(text))
  const id = await published(gateway)
  const ready = await all.until(({ event, data }) => event === 'video.ready' && data.data.id === id)
  t.match(ready.data, { type: 'video.ready', data: { id, info: { launchUrl: /^http/ } } })
  const uploaded = all.frames.find(({ event }) => event === 'video.uploaded')
  const behind = all.frames
    .filter((frame) => frame.data && Number(frame.id) > Number(uploaded?.id))
    .map(({ data }) => data)
  for (const [query, headers] of [
    [`?after=${uploaded?.id}`, {}],
    [`?after=${first.id}`, { 'last-event-id': uploaded?.id ?? '' }],
    ['', { 'last-event-id': uploaded?.id ?? '' }],
  ] as const) {
    const resumed = await openStream(t, url, query, headers)
    await resumed.until(({ event }) => event === 'video.ready')
    t.strictSame(
      resumed.frames.flatMap(({ data }) => data ?? []),
      behind,
    )
    resumed.close()
  }
  const filtered = await openStream(t, url, `?after=${first.id}&type=video.ready&video=${id}`)
  await filtered.until(({ event }) => event === 'video.ready')
  t.strictSame(
    filtered.frames.map(({ event }) => event),
    [undefined, 'video.ready'],
  )
  filtered.close()
  all.close()
})

t.test('streams are limited for each client and in total', async (t) => {
  const { call, url } = await start(t, { total: 6, perClient: 4 })
  const own = await Promise.all(Array.from({ length: 4 }, () => openStream(t, url)))
  t.ok(own.every(({ status }) => status === 200))
  const tooMany = await openStream(t, url)
  t.match([tooMany.status, tooMany.headers.get('retry-after')], [429, '10'])
  t.equal((await call('GET', '/v1/events')).status, 200, 'pages can be read')
  const other = { authorization: 'Bearer vgk_other' }
  const others = [await openStream(t, url, '', other), await openStream(t, url, '', other)]
  t.equal((await openStream(t, url, '', other)).status, 503)
  for (const stream of [...own, ...others]) stream.close()
  for (let tries = 0; tries < 100; tries++) {
    const again = await openStream(t, url)
    again.close()
    if (again.status === 200) return
    await sleep(20)
  }
  t.fail('places were not given back')
})

t.test('a wait ends with the next stage, with its time, or with its client', async (t) => {
  const gateway = await start(t)
  const { call, url } = gateway
  const { id } = await gateway.create()
  const wait = (prefer: string, path = `/v1/videos/${id}/status`) =>
    call('GET', path, { headers: { prefer } })
  const begun = performance.now()
  const timely = await wait('wait=1')
  t.match([timely.body.stage, timely.headers.get('preference-applied')], ['awaiting-upload', 'wait=1'])
  t.ok(performance.now() - begun > 900)
  const waiting = wait('respond-async, wait=60')
  const gone = new AbortController()
  const left = fetch(`${url}/v1/videos/${id}/status`, {
    headers: { authorization: `Bearer ${key}`, prefer: 'wait=60' },
    signal: gone.signal,
  })
  await sleep(100)
  gone.abort()
  await t.rejects(left)
  await gateway.put(id, fakeMp4(2_000))
  t.not((await waiting).body.stage, 'awaiting-upload')
  let last: Json = {}
  while (last.status !== 'ready' && last.status !== 'error') last = (await wait('wait=30')).body
  t.equal((await wait('wait=60')).body.status, 'ready', 'nothing to wait for')
  for (const prefer of ['wait=x', 'wait', 'respond-async', 'wait=-1', 'handling=lenient'])
    t.equal((await wait(prefer)).headers.get('preference-applied'), null, prefer)
  t.equal((await wait('wait=3600')).headers.get('preference-applied'), 'wait=60')
  const second = await gateway.create()
  const deleted = wait('wait=60', `/v1/videos/${second.id}/status`)
  await sleep(50)
  await call('DELETE', `/v1/videos/${second.id}`)
  t.match(await deleted, { status: 410, body: { code: 'video-deleted' } })
  t.match(await wait('wait=60', '/v1/videos/none/status'), { status: 404 })
})

t.test('a stream that is not read is closed and does not delay others', async (t) => {
  const slow = await startGateway(t, { sandbox, connectionLimits: { responseIdleMs: 500 } })
  const { id } = await slow.create({ description: 'x'.repeat(5_000) })
  // 20 MB of events: more than the kernel's buffers hold.
  const rename = (video: Video): Video => ({ ...video, title: `${video.version}` })
  for (let change = 0; change < 4_000; change++) {
    await slow.app.gateway.store.update(id, rename)
    // Connections that are kept must not expire unnoticed.
    if (change % 100 === 0) await sleep(0)
  }
  const socket = connect(Number(new URL(slow.url).port), '127.0.0.1')
  t.teardown(() => socket.destroy())
  socket.on('error', () => {})
  socket.pause()
  socket.write(
    `GET /v1/events?after=0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${key}\r\nAccept: text/event-stream\r\n\r\n`,
  )
  const quick = await openStream(t, slow.url, '?after=0')
  const last = await quick.until(({ data }) => data?.data.version >= 4_000)
  t.ok(last)
  await sleep(3_000)
  // The end that it did not see comes behind what was sent before.
  socket.resume()
  await once(socket, 'close')
  t.ok(socket.bytesRead < 19_000_000, `${socket.bytesRead} bytes were sent`)
})

t.test('shutdown ends streams and waits immediately', async (t) => {
  const ending = await startGateway(t, { sandbox, env: { SHUTDOWN_TIMEOUT: '30s' } })
  const { id } = await ending.create()
  const streams = await Promise.all([openStream(t, ending.url), openStream(t, ending.url)])
  const waiting = ending.call('GET', `/v1/videos/${id}/status`, { headers: { prefer: 'wait=60' } })
  await sleep(50)
  const begun = performance.now()
  const closed = ending.close()
  t.match((await waiting).body, { stage: 'awaiting-upload' })
  await Promise.all(streams.map(({ ended }) => ended))
  await closed
  t.ok(performance.now() - begun < 10_000)
})
