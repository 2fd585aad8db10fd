import t, { type Test } from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { startDouble } from '../platform/doubles/peertube.ts'
import { fakeMp4, form, type Json, startGateway } from '../support/gateway.ts'
import { type RecordedRequest, recordRequests } from '../support/requests.ts'

const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
const traceparent = `00-${traceId}-00f067aa0ba902b7-01`
const tracestate = 'vendor=abc,other=1'

async function setUp(t: Test) {
  const sandbox = await startSandbox({ knobs: { discard: true, processing_delay_ms: 10 } })
  t.teardown(() => sandbox.close())
  const seen = recordRequests(t, sandbox.url)
  const lines: Json[] = []
  const stream = { write: (line: string) => void lines.push(JSON.parse(line)) }
  const gateway = await startGateway(t, { sandbox, logger: { level: 'info', stream } })
  const create = (headers: Record<string, string>) =>
    gateway.call('POST', '/v1/videos', { json: { title: 'x' }, headers })
  return { gateway, sandbox, seen, lines, create }
}

const calls = (seen: RecordedRequest[]) => seen.map(({ method, path }) => `${method} ${path.split('/')[1]}`)
const parents = (seen: RecordedRequest[]) => seen.map(({ headers }) => headers.traceparent)

t.test('every platform call of a request carries its trace, calls of the poller carry none', async (t) => {
  const { gateway, seen, create } = await setUp(t)
  const headers = { traceparent, tracestate }

  const { body: video } = await create(headers)
  t.strictSame(calls(seen), ['POST oauth', 'POST clips'])
  t.strictSame(parents(seen), [traceparent, traceparent])
  t.strictSame(
    seen.map((request) => request.headers.tracestate),
    [tracestate, tracestate],
  )

  seen.length = 0
  const status = await gateway.put(video.id, fakeMp4(300_000), headers)
  t.equal(status.status, 204)
  await gateway.until(video.id, ({ status }) => status === 'ready')
  const [where, upload, ...polls] = seen
  t.match(where, { method: 'GET', headers })
  t.match(upload, { method: 'PUT', headers })
  t.ok(polls.length >= 3, 'status, info and thumbnail')
  t.strictSame([...new Set(parents(polls))], [undefined])

  seen.length = 0
  t.equal((await gateway.call('DELETE', `/v1/videos/${video.id}`, { headers })).status, 204)
  t.strictSame([calls(seen), parents(seen)], [['DELETE clips'], [traceparent]])

  seen.length = 0
  const made = await gateway.call('POST', '/v1/videos', {
    body: form({ title: 'x' }, fakeMp4(300_000)),
    headers,
  })
  t.equal(made.status, 201)
  t.strictSame([...new Set(parents(seen.slice(0, 3)))], [traceparent], 'slot and content, from a form')
})

t.test('the login and every chunk carry the trace', async (t) => {
  const double = await startDouble()
  t.teardown(() => double.close())
  const seen = recordRequests(t, String(double.variables.PEERTUBE_BASE_URL))
  const gateway = await startGateway(t, { env: { PLATFORM: 'peertube', ...double.variables } })
  const chunks = 3
  const made = await gateway.call('POST', '/v1/videos', {
    body: form({ title: 'Evening news' }, fakeMp4(Number(double.chunkSize) * chunks)),
    headers: { traceparent },
  })
  t.equal(made.status, 201)
  const until = seen.findLastIndex(({ method }) => method === 'PUT') + 1
  t.match(calls(seen), ['GET api', 'POST api'], 'it logs in first')
  t.equal(calls(seen).filter((call) => call === 'PUT api').length, chunks)
  t.strictSame(parents(seen.slice(0, until)), Array(until).fill(traceparent))
})

t.test('concurrent requests keep separate traces', async (t) => {
  const { seen, create } = await setUp(t)
  const ids = Array.from({ length: 10 }, (_, i) => traceId.slice(0, -1) + i)
  await Promise.all([
    create({}),
    ...ids.map((id) => create({ traceparent: traceparent.replace(traceId, id) })),
  ])
  const clips = seen.filter(({ method, path }) => method === 'POST' && path === '/clips')
  t.strictSame(
    parents(clips)
      .map((header) => header?.slice(3, 35))
      .sort(),
    [...ids, undefined],
  )
  t.equal(calls(seen).filter((call) => call === 'POST oauth').length, 1, 'and share the token request')
})

t.test('an invalid traceparent is ignored, and tracestate with it', async (t) => {
  const { seen, lines, create } = await setUp(t)
  const zeros = traceparent.replace(traceId, '0'.repeat(32))
  for (const invalid of [
    undefined,
    '',
    'nonsense',
    traceparent.toUpperCase(),
    `${traceparent}-more`,
    traceparent.slice(0, -1),
    traceparent.replace(/^00/, 'ff'),
    traceparent.replace('00f067aa0ba902b7', '0000000000000000'),
    zeros,
    `${traceparent}, ${traceparent}`,
  ])
    t.equal(
      (await create({ tracestate, ...(invalid !== undefined && { traceparent: invalid }) })).status,
      201,
    )
  t.equal(seen.length, 11)
  for (const { headers } of seen) t.notOk('traceparent' in headers || 'tracestate' in headers)
  for (const line of lines) t.notOk('traceId' in line)
})

t.test(
  'a traceparent of a later version is passed on unchanged, a tracestate that is too long is dropped',
  async (t) => {
    const { seen, create } = await setUp(t)
    const later = `${traceparent.replace(/^00/, 'cc')}-what-the-future-brings`
    await create({ traceparent: later, tracestate: 'a=1'.padEnd(513, 'x') })
    t.strictSame(parents(seen), [later, later])
    for (const { headers } of seen) t.notOk('tracestate' in headers)
  },
)

t.test('only the log lines of a request have its trace id, once', async (t) => {
  const { gateway, lines, create } = await setUp(t)
  const headers = { traceparent }
  const { body: video } = await create(headers)
  t.equal((await create({ ...headers, authorization: 'Bearer nobody' })).status, 401)
  t.equal((await gateway.call('POST', '/v1/videos', { json: {}, headers })).status, 400)
  await gateway.put(video.id, fakeMp4(1000), headers)
  await gateway.until(video.id, ({ status }) => status === 'ready')

  const of = (message: string) => lines.filter(({ msg }) => msg === message).map((line) => line.traceId)
  t.strictSame(of('provisioned'), [traceId])
  t.strictSame(of('upload-completed'), [traceId])
  t.strictSame(of('request failed'), [traceId, traceId])
  t.strictSame(of('processed'), [undefined])
  const requests = lines.filter(({ msg, method }) => msg === 'request' && method !== 'GET')
  t.strictSame(
    requests.map((line) => [line.status, line.traceId]),
    [201, 401, 400, 204].map((status) => [status, traceId]),
  )
  t.notOk(of('request').slice(4).some(Boolean), 'requests without traceparent have no trace')
})

t.test('log lines about a video have the id of the request that caused them', async (t) => {
  const { gateway, lines, create } = await setUp(t)
  const { body: video } = await create({ 'x-request-id': 'made-by-cms' })
  await gateway.put(video.id, fakeMp4(1_000), { 'x-request-id': 'sent-by-cms' })
  await gateway.until(video.id, ({ status }) => status === 'ready')
  await gateway.call('DELETE', `/v1/videos/${video.id}`, { headers: { 'x-request-id': 'gone-by-cms' } })
  const requestOf = (message: string) => lines.find(({ msg }) => msg === message)?.requestId
  t.strictSame(
    ['provisioned', 'upload-completed', 'processed', 'deletion-completed'].map(requestOf),
    ['made-by-cms', 'sent-by-cms', undefined, 'gone-by-cms'],
    'the poller has none',
  )
})
