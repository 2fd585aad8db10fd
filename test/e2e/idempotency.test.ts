import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { IdempotencyRecord } from '../../src/publication/store.ts'
import { newVideo } from '../../src/publication/video.ts'
import { clipsOn, fakeMp4, form, startGateway } from '../support/gateway.ts'

const headers = { 'idempotency-key': 'cms-4711' }

t.test('the same key and body return the first response again', async (t) => {
  const gateway = await startGateway(t)
  const json = { title: 'news', reference: 'r' }
  const first = await gateway.call('POST', '/v1/videos', { json, headers })
  t.equal(first.status, 201)
  t.equal(first.headers.get('idempotency-replayed'), null)
  await gateway.put(first.body.id, fakeMp4(100))
  const second = await gateway.call('POST', '/v1/videos', { json, headers })
  t.equal(second.status, 201)
  t.equal(second.headers.get('idempotency-replayed'), 'true')
  t.equal(second.headers.get('location'), first.headers.get('location'))
  t.strictSame(second.body, first.body, 'as it was answered then')
  t.equal(gateway.sandbox.stats().calls.create, 1)
  t.match(await gateway.call('POST', '/v1/videos', { json: { ...json, title: 'other' }, headers }), {
    status: 422,
    body: { code: 'idempotency-key-reused' },
  })
  t.match(await gateway.call('POST', '/v1/videos', { body: form(json, fakeMp4(50)), headers }), {
    status: 422,
  })
  t.match(await gateway.call('POST', '/v1/videos', { json, headers: { 'idempotency-key': '' } }), {
    status: 400,
  })
})

t.test('a key is in progress during the first request, and free after its failure', async (t) => {
  const gateway = await startGateway(t)
  gateway.sandbox.knobs.faults.push({ operation: 'create', times: 1, delay_ms: 500 })
  const json = { title: 'news' }
  const first = gateway.call('POST', '/v1/videos', { json, headers })
  while (gateway.sandbox.stats().calls.create === 0) await sleep(5)
  t.match(await gateway.call('POST', '/v1/videos', { json, headers }), {
    status: 409,
    body: { code: 'idempotency-key-in-progress' },
  })
  t.equal((await first).status, 201)
  t.equal(gateway.sandbox.stats().calls.create, 1)

  const key = { 'idempotency-key': 'other' }
  gateway.sandbox.knobs.faults.push({ operation: 'create', times: 1, status: 422 })
  t.equal((await gateway.call('POST', '/v1/videos', { json, headers: key })).status, 422)
  t.equal(
    (await gateway.call('POST', '/v1/videos', { json, headers: key })).status,
    201,
    'a failed request may be repeated',
  )
})

t.test('Retry-After is short while the first request is in progress', async (t) => {
  const gateway = await startGateway(t)
  const waitOf = async (options: Parameters<typeof gateway.call>[2]) => {
    const { status, headers } = await gateway.call('POST', '/v1/videos', options)
    t.equal(status, 409)
    return headers.get('retry-after')
  }
  const upload = { body: form({ title: 'news' }, fakeMp4(1000)) }
  for (const [operation, options] of [
    ['create', { json: { title: 'news' } }],
    ['create', upload],
    ['ingest', upload],
  ] as const) {
    const calls = gateway.sandbox.stats().calls[operation]
    const again = { ...options, headers: { 'idempotency-key': `${operation} ${Object.keys(options)}` } }
    gateway.sandbox.knobs.faults.push({ operation, times: 1, delay_ms: 1000 })
    const first = gateway.call('POST', '/v1/videos', again)
    while (gateway.sandbox.stats().calls[operation] === calls) await sleep(5)
    t.match(await waitOf(again), /^[12]$/, operation)
    t.equal((await first).status, 201)
    t.equal((await gateway.call('POST', '/v1/videos', again)).headers.get('idempotency-replayed'), 'true')
  }
})

t.test('Retry-After grows with the age of the first request, up to the end of its claim', async (t) => {
  const gateway = await startGateway(t)
  const { store } = gateway.app.gateway
  const json = { title: 'news' }
  await gateway.call('POST', '/v1/videos', { json, headers })
  const { client, fingerprint } = (await store.findKey(
    'test',
    headers['idempotency-key'],
  )) as IdempotencyRecord
  /** What is stored while a request is under way, or after its process died: seconds since it began, and to go. */
  const begun = (key: string, age: number, left: number) => {
    const now = store.now()
    const video = newVideo(json, 'sandbox', 0, now - age * 1000)
    return store.insert({ ...video, nextCheckAt: now + left * 1000 }, { client, key, fingerprint })
  }
  for (const [age, left, expected] of [
    [0, 60, '1'],
    [3.1, 57, '4'],
    [40, 20, '10'],
    [55, 4.9, '5'],
    [-3600, 60, '1'],
    [30, 300, '10'],
  ] as const) {
    const key = `begun ${age} s ago, claimed for ${left} s more`
    await begun(key, age, left)
    const answer = await gateway.call('POST', '/v1/videos', { json, headers: { 'idempotency-key': key } })
    t.match(answer, { status: 409, body: { code: 'idempotency-key-in-progress' } }, key)
    t.equal(answer.headers.get('retry-after'), expected, key)
  }
  for (const age of [60, 600]) {
    const key = `begun ${age} s ago, claimed no more`
    await begun(key, age, 0)
    const repeat = () => gateway.call('POST', '/v1/videos', { json, headers: { 'idempotency-key': key } })
    let answer = await repeat()
    for (; answer.status === 409; answer = await repeat()) await sleep(20)
    t.equal(answer.status, 201, key)
  }
})

t.test('a creation with content is idempotent', async (t) => {
  const gateway = await startGateway(t)
  const file = fakeMp4(100_000)
  const post = () => gateway.call('POST', '/v1/videos', { body: form({ title: 'news' }, file), headers })
  gateway.sandbox.knobs.faults.push({ operation: 'ingest', times: 1, status: 500 })
  t.equal((await post()).status, 503)
  t.equal(clipsOn(gateway), 0, 'all or nothing')
  const [first, again] = [await post(), await post()]
  t.equal(first.status, 201)
  t.equal(again.status, 201)
  t.equal(again.headers.get('idempotency-replayed'), 'true')
  t.equal(again.body.id, first.body.id)
  t.equal(gateway.sandbox.stats().calls.create, 2)
})

t.test('another file of the same length is a different request', async (t) => {
  const gateway = await startGateway(t)
  const file = fakeMp4(100_000)
  const other = Buffer.from(file).fill(7, 50_000)
  const post = (content: Buffer) =>
    gateway.call('POST', '/v1/videos', { body: form({ title: 'news' }, content), headers })
  t.equal((await post(file)).status, 201)
  t.match(await post(other), { status: 422, body: { code: 'idempotency-key-reused' } })
  t.equal((await post(file)).headers.get('idempotency-replayed'), 'true')
  t.equal(gateway.sandbox.stats().calls.create, 1)
  t.equal(gateway.sandbox.stats().received_bytes, 100_000, 'a replay sends nothing to the platform')
})

t.test('a key stays in use while the first request is undone', async (t) => {
  const gateway = await startGateway(t)
  const content = fakeMp4(100_000)
  const post = () => gateway.call('POST', '/v1/videos', { body: form({ title: 'news' }, content), headers })
  gateway.sandbox.knobs.faults.push(
    { operation: 'ingest', times: 1, status: 422 },
    { operation: 'delete', times: 1, delay_ms: 400 },
    { operation: 'ingest', times: 1, delay_ms: 600 },
  )
  const first = post()
  while (gateway.sandbox.stats().calls.delete === 0) await sleep(5)
  const second = post()
  t.equal((await first).status, 422)
  t.match(await post(), { status: 409, body: { code: 'idempotency-key-in-progress' } })
  t.equal((await second).status, 201)
  t.equal(clipsOn(gateway), 1)
})

t.test('fifty concurrent requests with one key provision one video', async (t) => {
  const gateway = await startGateway(t)
  const answers = await Promise.all(
    Array.from({ length: 50 }, () => gateway.call('POST', '/v1/videos', { json: { title: 'x' }, headers })),
  )
  t.strictSame(
    [...new Set(answers.map(({ status }) => status))].sort(),
    answers.some(({ status }) => status === 409) ? [201, 409] : [201],
  )
  t.equal(gateway.sandbox.stats().calls.create, 1)
})
