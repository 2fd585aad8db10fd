import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { defaultTools } from '../../src/platform/tools.ts'
import { clipsOn, fakeMp4, form, key, startGateway, type TestResponse } from '../support/gateway.ts'
import { rawConnection, requestHead } from '../support/raw.ts'

const authorization = `Bearer ${key}`
const nobody = '0192f0c1-7a3e-7c43-8f1d-3a5b6c7d8e9f'

/** Every problem has the same shape, and says nothing it should not. */
function problem(t: Test, answer: TestResponse, status: number, code: string) {
  t.equal(answer.status, status, code)
  t.match(answer.headers.get('content-type'), /^application\/problem\+json/)
  t.match(answer.body, {
    type: `/problems/${code}`,
    title: String,
    status,
    detail: String,
    instance: /^\//,
    code,
    requestId: String,
  })
  t.equal(answer.headers.get('x-request-id'), answer.body.requestId)
  t.notMatch(JSON.stringify(answer.body), /node_modules|\.ts|at \w+ \(|\/work\//)
}

t.test('a form whose file has another name is rejected with the reason, at any size', async (t) => {
  const gateway = await startGateway(t)
  for (const size of [100, 1_000_000])
    for (const path of ['/v1/videos', `/v1/videos/${(await gateway.create()).id}/content`]) {
      const body = new FormData()
      if (path === '/v1/videos') body.append('title', 'x')
      body.append('video', new Blob([new Uint8Array(fakeMp4(size))], { type: 'video/mp4' }), 'a.mp4')
      const answer = await gateway.call('POST', path, { body })
      problem(t, answer, 400, 'invalid-request')
      t.match(answer.body.detail, /^\/video is not a field of this form; the video goes in the part `file`/)
    }
})

t.test('a repeated Idempotency-Key header is rejected', async (t) => {
  const gateway = await startGateway(t)
  const { write, rest } = await rawConnection(gateway.url)
  const body = '{"title":"x"}'
  const head = requestHead('POST', '/v1/videos', {
    authorization,
    connection: 'close',
    'content-type': 'application/json',
    'content-length': body.length,
    'idempotency-key': 'a\r\nidempotency-key: b',
  })
  write(head + body)
  t.match(await rest(), /^HTTP\/1\.1 400 (?:.|\r|\n)*idempotency-key occurs more than once/)
})

t.test('invalid input is rejected with its path', async (t) => {
  const gateway = await startGateway(t)
  const post = (json: unknown) => gateway.call('POST', '/v1/videos', { json })
  for (const [json, path] of [
    [{}, '/title'],
    [{ title: '' }, '/title'],
    [{ title: '   ' }, '/title'],
    [{ title: 7 }, '/title'],
    [{ title: 'x'.repeat(201) }, '/title'],
    [{ title: 'x', description: 'x'.repeat(5001) }, '/description'],
    [{ title: 'x', reference: null }, '/reference'],
    [{ title: 'x', platform: 'vhs' }, '/platform'],
    [{ title: 'x', extra: 1 }, '/extra'],
    [[], ''],
  ] as const) {
    const answer = await post(json)
    problem(t, answer, 400, 'invalid-request')
    t.ok(
      answer.body.errors.some((error: { path: string }) => error.path === path),
      `${JSON.stringify(json).slice(0, 40)} names ${path}`,
    )
  }
  const bad = (body: string, type: string) =>
    gateway.call('POST', '/v1/videos', { body, headers: { 'content-type': type } })
  for (const [body, message] of [
    ['{"title":', 'is not valid JSON'],
    [
      '{"title":"x","__proto__":{"a":1}}',
      'must not have a member `__proto__`, or `constructor` with a member `prototype`',
    ],
    ['', 'must be a JSON object'],
  ] as const) {
    const answer = await bad(body, 'application/json')
    problem(t, answer, 400, 'invalid-request')
    t.strictSame(answer.body.errors, [{ path: '', message }])
  }
  problem(t, await bad('<title/>', 'application/xml'), 415, 'unsupported-media-type')
  problem(t, await bad(`{"title":"${'x'.repeat(2_000_000)}"}`, 'application/json'), 413, 'content-too-large')
  problem(t, await bad('no form', 'multipart/form-data; boundary=x'), 400, 'incomplete-upload')
  problem(t, await bad('no form', 'multipart/form-data'), 400, 'invalid-request')
  problem(t, await gateway.call('POST', '/v1/videos'), 415, 'unsupported-media-type')
  t.equal(gateway.sandbox.stats().calls.create ?? 0, 0, 'the platform heard of none of it')
})

t.test('DELETE accepts Content-Type without a body', async (t) => {
  const gateway = await startGateway(t)
  const { id } = await gateway.create()
  const headers = { 'content-type': 'application/json' }
  t.equal((await gateway.call('DELETE', `/v1/videos/${id}`, { headers })).status, 204)
  problem(t, await gateway.call('DELETE', `/v1/videos/${nobody}`, { headers }), 404, 'video-not-found')
  problem(t, await gateway.call('PATCH', '/v1/videos', { headers }), 405, 'method-not-allowed')
  const wrong = await gateway.call('DELETE', `/v1/videos/${id}`, { headers, body: 'no JSON' })
  problem(t, wrong, 400, 'invalid-request')
})

t.test('an invalid form is rejected with the reason', async (t) => {
  const gateway = await startGateway(t)
  const send = (body: FormData) => gateway.call('POST', '/v1/videos', { body })
  const file = fakeMp4(3000)
  const late = form({ title: 'x' }, file)
  late.append('reference', 'after the file')
  const second = form({ title: 'x' }, file)
  second.append('file', new Blob([file as Uint8Array<ArrayBuffer>], { type: 'video/mp4' }), 'b.mp4')
  const twice = new FormData()
  twice.append('title', 'a')
  twice.append('title', 'b')
  const none = new FormData()
  none.append('title', 'a')
  for (const [body, path] of [
    [late, '/file'],
    [second, '/file'],
    [twice, '/title'],
    [none, '/file'],
    [form({}, file), '/title'],
    [form({ title: 'x', color: 'red' }, file), '/color'],
    [form({ title: '' }, file), '/title'],
  ] as const) {
    const answer = await send(body)
    problem(t, answer, 400, 'invalid-request')
    t.match(answer.body.errors, [{ path }])
  }
  problem(t, await send(form({ title: 'x' }, file, 'image/png')), 415, 'unsupported-media-type')
  problem(
    t,
    await send(form({ title: 'x' }, Buffer.from('GIF89a, certainly'))),
    415,
    'unsupported-media-type',
  )
  problem(t, await send(form({ title: 'x' }, Buffer.alloc(0))), 400, 'incomplete-upload')
  t.equal(clipsOn(gateway), 0, 'nothing is left on the platform')
  t.same((await gateway.call('GET', '/v1/videos')).body.items, [], 'nor here')
})

t.test('an unknown path or video is 404, a wrong method 405', async (t) => {
  const gateway = await startGateway(t)
  for (const id of [nobody, 'nope', '..%2f..%2fetc', '%00', 'a'.repeat(200)])
    problem(t, await gateway.call('GET', `/v1/videos/${id}`), 404, 'video-not-found')
  problem(t, await gateway.call('GET', `/v1/videos/${'a'.repeat(201)}`), 400, 'invalid-request')
  problem(t, await gateway.call('DELETE', `/v1/videos/${nobody}`), 404, 'video-not-found')
  problem(t, await gateway.put(nobody, fakeMp4(100)), 404, 'video-not-found')
  problem(t, await gateway.call('GET', '/v2/videos'), 404, 'not-found')
  const patch = await gateway.call('PATCH', '/v1/videos')
  problem(t, patch, 405, 'method-not-allowed')
  t.match(patch.headers.get('allow'), /GET.*POST/)
  for (const header of [undefined, 'Bearer wrong', 'Basic dGVzdDp0ZXN0', 'Bearer']) {
    const answer = await gateway.call('GET', '/v1/videos', {
      headers: header === undefined ? { authorization: '' } : { authorization: header },
    })
    problem(t, answer, 401, 'unauthorized')
    t.match(answer.headers.get('www-authenticate'), /^Bearer realm=/)
  }
  const page = await gateway.call('GET', '/problems/video-not-ready')
  t.match(page, { status: 200, body: /409/ })
})

t.test('unacceptable content is rejected with the reason', async (t) => {
  const gateway = await startGateway(t, { env: { UPLOAD_MAX_BYTES: '10000B', UPLOAD_IDLE_TIMEOUT: '200ms' } })
  const video = await gateway.create()
  const path = `/v1/videos/${video.id}/content`
  const chunked = (...chunks: Uint8Array[]) => ReadableStream.from(chunks) as never
  problem(t, await gateway.put(video.id, Buffer.from('GIF89a, certainly')), 415, 'unsupported-media-type')
  problem(
    t,
    await gateway.put(video.id, fakeMp4(100), { 'content-type': 'video/quicktime' }),
    415,
    'unsupported-media-type',
  )
  problem(
    t,
    await gateway.put(video.id, fakeMp4(100), { 'content-type': 'application/json' }),
    415,
    'unsupported-media-type',
  )
  const part = await gateway.put(video.id, fakeMp4(100), { 'content-range': 'bytes 0-99/5000' })
  problem(t, part, 400, 'invalid-request')
  t.match(part.body.errors, [{ path: 'content-range' }])
  problem(t, await gateway.put(video.id, Buffer.alloc(0)), 400, 'incomplete-upload')
  problem(t, await gateway.put(video.id, fakeMp4(10_001)), 413, 'content-too-large')
  problem(t, await gateway.put(video.id, chunked(fakeMp4(9000), fakeMp4(2000))), 413, 'content-too-large')
  problem(t, await gateway.call('POST', path, { body: form({}, fakeMp4(10_001)) }), 413, 'content-too-large')
  problem(
    t,
    await gateway.call('POST', path, { body: form({ title: 'x' }, fakeMp4(100)) }),
    400,
    'invalid-request',
  )
  problem(
    t,
    await gateway.call('POST', path, { body: Buffer.from('x'), headers: { 'content-type': 'video/mp4' } }),
    415,
    'unsupported-media-type',
  )

  await t.test('a stalled body is upload-timeout', async (t) => {
    const connection = await rawConnection(gateway.url)
    connection.write(
      requestHead('PUT', path, { authorization, 'content-type': 'video/mp4', 'content-length': 5000 }),
    )
    connection.write(fakeMp4(1000))
    const answer = await connection.rest(1000)
    t.match(answer, /^HTTP\/1\.1 408 /)
    t.match(answer, /"code":"upload-timeout"/)
    connection.socket.destroy()
  })

  await t.test('an interrupted body is incomplete-upload', async () => {
    const connection = await rawConnection(gateway.url)
    connection.write(
      requestHead('PUT', path, { authorization, 'content-type': 'video/mp4', 'content-length': 5000 }),
    )
    connection.write(fakeMp4(1000))
    await sleep(50)
    connection.socket.destroy()
    await gateway.until(video.id, ({ stage }) => stage === 'awaiting-upload')
  })

  t.match(await gateway.until(video.id, () => true), {
    stage: 'awaiting-upload',
    upload: { bytesReceived: 0, bytesTotal: null },
  })
  // The platform may need a moment to notice that the cut upload is over.
  let again = await gateway.put(video.id, fakeMp4(9999))
  for (let tries = 0; again.status !== 204 && tries < 20; tries++)
    again = await gateway.put(video.id, fakeMp4(9999))
  t.match(again, { status: 204 }, 'afterwards it accepts a new upload')
  problem(t, await gateway.put(video.id, fakeMp4(100)), 409, 'content-already-uploaded')
})

t.test('a missing length that the platform requires is length-required', async (t) => {
  const gateway = await startGateway(t, { env: { SANDBOX_LENGTH_REQUIRED: 'true' } })
  gateway.sandbox.knobs.require_length = true
  const video = await gateway.create()
  const path = `/v1/videos/${video.id}/content`
  problem(
    t,
    await gateway.put(video.id, ReadableStream.from([fakeMp4(100)]) as never),
    411,
    'length-required',
  )
  t.equal(
    (await gateway.call('POST', path, { body: form({}, fakeMp4(100_000)) })).status,
    204,
    'a form has one',
  )
})

t.test('each failure of the platform has its error code', async (t) => {
  const tools = {
    timeouts: { ...defaultTools.timeouts, answer: 200 },
    retries: 0,
    circuit: { failures: 100, halfOpenAfter: 100 },
  }
  const gateway = await startGateway(t, { tools })
  for (const [fault, status, code, retryAfter] of [
    [{ status: 422, body: { fault: { kind: 'bad', text: 'SECRET' } } }, 422, 'platform-rejected', null],
    [{ status: 429, headers: { 'retry-after': '7' } }, 503, 'platform-throttled', '7'],
    [{ status: 500 }, 503, 'platform-unavailable', '5'],
    [{ status: 503, headers: { 'retry-after': '9' } }, 503, 'platform-unavailable', '9'],
    [{ reset: true }, 503, 'platform-unavailable', '5'],
    [{ hang: true }, 504, 'platform-timeout', null],
    [{ status: 200, body: '<html>SECRET</html>' }, 502, 'platform-protocol-error', null],
    [{ status: 201, body: { clip_id: 5 } }, 502, 'platform-protocol-error', null],
    [{ status: 302, headers: { location: 'http://elsewhere/' } }, 502, 'platform-protocol-error', null],
    [{ status: 403 }, 502, 'platform-unauthorized', null],
  ] as const) {
    gateway.sandbox.knobs.faults.push({ operation: 'create', times: 1, ...fault })
    const answer = await gateway.call('POST', '/v1/videos', { json: { title: code } })
    problem(t, answer, status, code)
    t.equal(answer.headers.get('retry-after'), retryAfter)
    t.notMatch(JSON.stringify(answer.body), /SECRET/)
  }
  t.same((await gateway.call('GET', '/v1/videos')).body.items, [], 'no half-made video')

  for (const [fault, status, code] of [
    [{ status: 400 }, 422, 'platform-rejected'],
    [{ status: 507, after_bytes: 100_000 }, 503, 'platform-unavailable'],
    [{ reset: true, after_bytes: 100_000 }, 503, 'platform-unavailable'],
    [{ status: 429 }, 503, 'platform-throttled'],
  ] as const) {
    const video = await gateway.create()
    gateway.sandbox.knobs.faults.push({ operation: 'ingest', times: 1, ...fault })
    problem(t, await gateway.put(video.id, fakeMp4(3_000_000)), status, code)
    t.match(await gateway.until(video.id, () => true), {
      stage: 'awaiting-upload',
      status: 'pending',
      error: null,
    })
    t.equal((await gateway.put(video.id, fakeMp4(3000))).status, 204, 'it accepts a new upload')
  }
})

t.test('an early rejection by the platform is reported although it resets the connection', async (t) => {
  const gateway = await startGateway(t)
  const content = fakeMp4(30_000_000)
  const headers = { 'content-type': 'application/json', 'retry-after': '7' }
  for (const [status, expected, code, retryAfter] of [
    [308, 502, 'platform-protocol-error', null],
    [401, 502, 'platform-unauthorized', null],
    [403, 502, 'platform-unauthorized', null],
    [404, 422, 'platform-rejected', null],
    [409, 422, 'platform-rejected', null],
    [413, 422, 'platform-rejected', null],
    [422, 422, 'platform-rejected', null],
    [429, 503, 'platform-throttled', '7'],
    [503, 503, 'platform-unavailable', '7'],
    // Success without having read the content is none.
    [200, 502, 'platform-protocol-error', null],
    [204, 502, 'platform-protocol-error', null],
  ] as const)
    for (const after_bytes of [0, 100_000]) {
      const video = await gateway.create()
      const fault = { operation: 'ingest', times: 1, status, headers, after_bytes, reset: true } as const
      gateway.sandbox.knobs.faults.push(fault)
      const answer = await gateway.put(video.id, content)
      problem(t, answer, expected, code)
      t.equal(answer.headers.get('retry-after'), retryAfter, `${status} after ${after_bytes} bytes`)
      t.match(await gateway.until(video.id, () => true), { stage: 'awaiting-upload', error: null })
      t.equal((await gateway.put(video.id, fakeMp4(3000))).status, 204, 'it accepts a new upload')
    }
})

t.test('rejected platform credentials are platform-unauthorized', async (t) => {
  const gateway = await startGateway(t, { env: { SANDBOX_CLIENT_SECRET: 'wrong' } })
  problem(t, await gateway.call('POST', '/v1/videos', { json: { title: 'x' } }), 502, 'platform-unauthorized')
})
