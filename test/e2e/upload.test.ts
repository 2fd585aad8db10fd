import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startDouble } from '../platform/doubles/mux.ts'
import { clipsOn, fakeMp4, form, key, startGateway, type TestGateway } from '../support/gateway.ts'
import { beginPut, rawConnection, requestHead } from '../support/raw.ts'

const authorization = `Bearer ${key}`

/** A form as text, so that its framing can be bent. */
function rawForm(file: Buffer, { boundary = 'b0undary', end = '', fields = '' } = {}) {
  const head = `--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="v.mp4"\r\nContent-Type: video/mp4\r\n\r\n`
  return {
    body: Buffer.concat([Buffer.from(fields + head), file, Buffer.from(end || `\r\n--${boundary}--\r\n`)]),
    type: `multipart/form-data; boundary=${boundary}`,
  }
}

function sendForm(gateway: TestGateway, id: string, { body, type }: ReturnType<typeof rawForm>) {
  return gateway.call('POST', `/v1/videos/${id}/content`, { body, headers: { 'content-type': type } })
}

/** Mux does not take an upload without its exact length. */
async function startInFrontOfMux(t: Test) {
  const double = await startDouble()
  t.teardown(() => double.close())
  return { double, gateway: await startGateway(t, { env: { PLATFORM: 'mux', ...double.variables } }) }
}

t.test('the status shows the bytes received during an upload', async (t) => {
  const gateway = await startGateway(t)
  const video = await gateway.create()
  const connection = await beginPut(gateway.url, video.id, 3000)
  connection.write(fakeMp4(1000))
  t.match(await gateway.until(video.id, ({ upload }) => upload.bytesReceived === 1000), {
    stage: 'uploading',
    status: 'pending',
    upload: { bytesTotal: 3000 },
  })
  t.match(
    await gateway.put(video.id, fakeMp4(10)),
    { status: 409, body: { code: 'upload-in-progress' } },
    'one upload at a time',
  )
  connection.write(Buffer.alloc(2000))
  t.match(await connection.rest(), /^HTTP\/1\.1 204 /)
  t.match(await gateway.until(video.id, ({ stage }) => stage !== 'uploading'), {
    upload: { bytesReceived: 3000, bytesTotal: 3000 },
  })
})

t.test('one of two concurrent uploads of a video is accepted', async (t) => {
  const gateway = await startGateway(t)
  const video = await gateway.create()
  const answers = await Promise.all([1, 2, 3, 4].map(() => gateway.put(video.id, fakeMp4(200_000))))
  t.equal(answers.filter(({ status }) => status === 204).length, 1)
  t.equal(answers.filter(({ status }) => status === 409).length, 3)
  t.equal(gateway.sandbox.stats().received_bytes, 200_000)
})

t.test('the exact length of a form’s file is sent to a platform that requires it', async (t) => {
  const { gateway, double } = await startInFrontOfMux(t)
  const field = (boundary: string, name: string, value: string) =>
    `--${boundary}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`
  for (const [name, options] of Object.entries({
    'a plain boundary': {},
    'a long boundary': { boundary: `----${'x'.repeat(60)}` },
    'fields before it': {
      fields:
        field('b0undary', 'title', 'x') + field('b0undary', 'reference', 'the text has --b0undary in it'),
    },
    'a preamble': { fields: `ignored\r\n${field('b0undary', 'title', 'x')}` },
  })) {
    for (const size of [8, 100, 70_000, 1_000_000]) {
      const withTitle = {
        ...options,
        fields:
          'fields' in options
            ? options.fields
            : field('boundary' in options ? options.boundary : 'b0undary', 'title', 'x'),
      }
      const { body, type } = rawForm(fakeMp4(size), withTitle)
      const answer = await gateway.call('POST', '/v1/videos', { body, headers: { 'content-type': type } })
      t.equal(answer.status, 201, `${name}, ${size} bytes: ${JSON.stringify(answer.body)}`)
      t.equal(answer.body.upload?.bytesReceived, size)
    }
  }
  t.strictSame(double.violations, [])
})

/** Ends of a form that RFC 2046 allows and that senders have. */
const ends = {
  'no line break': '\r\n--b0undary--',
  'two line breaks': '\r\n--b0undary--\r\n\r\n',
  'padding and a line break': '\r\n--b0undary--  \r\n',
  'padding alone': '\r\n--b0undary--\t',
}

t.test('every usual end of a form is accepted, with and without a required length', async (t) => {
  const { gateway, double } = await startInFrontOfMux(t)
  for (const at of [await startGateway(t), gateway])
    for (const [name, end] of Object.entries(ends)) {
      const video = await at.create({ title: name })
      t.equal((await sendForm(at, video.id, rawForm(fakeMp4(50_000), { end }))).status, 204, name)
      t.match(await at.until(video.id, () => true), { upload: { bytesReceived: 50_000 } }, name)
    }
  t.strictSame(double.violations, [])
})

t.test('if a computed length is wrong the error says what to send, and the slot stays free', async (t) => {
  // A platform for which an upper bound of the length is not enough.
  const gateway = await startGateway(t, { env: { SANDBOX_LENGTH_REQUIRED: 'true' } })
  gateway.sandbox.knobs.require_length = true
  const file = fakeMp4(1_500_000)
  for (const [name, end] of Object.entries(ends)) {
    const video = await gateway.create({ title: name })
    const refused = await sendForm(gateway, video.id, rawForm(file, { end }))
    t.match(refused, { status: 411, body: { code: 'length-required', detail: /field `size`/ } }, name)
    t.match(await gateway.until(video.id, () => true), { stage: 'awaiting-upload' }, name)
    const fields = `--b0undary\r\nContent-Disposition: form-data; name="size"\r\n\r\n${file.length}\r\n`
    t.equal((await sendForm(gateway, video.id, rawForm(file, { end, fields }))).status, 204, 'with `size`')
    t.match(await gateway.until(video.id, () => true), { upload: { bytesReceived: file.length } }, name)
  }
})

t.test('a size field that does not match the file is rejected', async (t) => {
  const { gateway, double } = await startInFrontOfMux(t)
  for (const at of [await startGateway(t), gateway])
    for (const [size, status, errors] of [
      ['49999', 400, undefined],
      ['50002', 400, undefined],
      ['1', 400, [{ path: '/size' }]],
      ['9000000', 400, [{ path: '/size' }]],
      ['-1', 400, [{ path: '/size' }]],
      ['1e3', 400, [{ path: '/size' }]],
      ['', 204, undefined],
      ['50000', 204, undefined],
    ] as const) {
      const video = await at.create({ title: `size ${size}` })
      const fields = `--b0undary\r\nContent-Disposition: form-data; name="size"\r\n\r\n${size}\r\n`
      const answer = await sendForm(at, video.id, rawForm(fakeMp4(50_000), { fields }))
      t.match(
        answer,
        { status, ...(errors && { body: { errors } }) },
        `${size}: ${JSON.stringify(answer.body)}`,
      )
    }
  t.strictSame(double.violations, [])
})

t.test('a form without its end fails, and leaves no truncated video', async (t) => {
  const gateway = await startGateway(t)
  for (const [name, end] of Object.entries({
    'no last boundary': '\r\n',
    'another boundary': '\r\n--other--\r\n',
    'a boundary without its end': '\r\n--b0undary\r\n',
  })) {
    const video = await gateway.create()
    t.match(
      await sendForm(gateway, video.id, rawForm(fakeMp4(50_000), { end })),
      { status: 400, body: { code: /incomplete-upload|invalid-request/ } },
      name,
    )
    t.equal((await gateway.until(video.id, () => true)).stage, 'awaiting-upload')
  }
  t.equal(
    gateway.sandbox.stats().clips.failed + gateway.sandbox.stats().clips.live,
    0,
    'the platform took none of them',
  )
})

t.test('the file part does not need a filename', async (t) => {
  const gateway = await startGateway(t)
  const video = await gateway.create()
  const { body, type } = rawForm(fakeMp4(50_000))
  const nameless = Buffer.from(body.toString('latin1').replace('; filename="v.mp4"', ''), 'latin1')
  t.equal((await sendForm(gateway, video.id, { body: nameless, type })).status, 204)
})

t.test('a form of unknown length is accepted, unless bytes follow the file', async (t) => {
  const gateway = await startGateway(t)
  const chunked = ({ body, type }: { body: Buffer; type: string }, path: string) =>
    gateway.call('POST', path, {
      body: ReadableStream.from([body.subarray(0, 500), body.subarray(500)]) as never,
      duplex: 'half',
      headers: { 'content-type': type },
    })
  const video = await gateway.create()
  const late = rawForm(fakeMp4(10_000), {
    end: '\r\n--b0undary\r\nContent-Disposition: form-data; name="title"\r\n\r\nlate\r\n--b0undary--\r\n',
  })
  t.match(await chunked(late, `/v1/videos/${video.id}/content`), {
    status: 400,
    body: { code: 'invalid-request', errors: [{ path: '/file' }] },
  })
  t.equal((await gateway.until(video.id, () => true)).stage, 'awaiting-upload')
  t.equal(
    (await chunked(rawForm(fakeMp4(10_000), { end: '\r\n--b0undary--' }), `/v1/videos/${video.id}/content`))
      .status,
    204,
  )
})

t.test('a client that waits for 100 Continue does not send a rejected upload', async (t) => {
  const gateway = await startGateway(t)
  const head = (path: string, headers: object = {}) =>
    requestHead('PUT', path, {
      authorization,
      'content-type': 'video/mp4',
      'content-length': 1000,
      expect: '100-continue',
      ...headers,
    })
  const refused = await rawConnection(gateway.url)
  refused.write(head('/v1/videos/0192f0c1-7a3e-7c43-8f1d-3a5b6c7d8e9f/content'))
  const firstBytes = async ({ received }: Awaited<ReturnType<typeof rawConnection>>) => {
    for (const deadline = Date.now() + 10_000; received() === '' && Date.now() < deadline; ) await sleep(10)
    return received()
  }
  t.match(await firstBytes(refused), /^HTTP\/1\.1 404 /)
  refused.socket.destroy()
  const video = await gateway.create()
  const taken = await rawConnection(gateway.url)
  taken.write(head(`/v1/videos/${video.id}/content`, { connection: 'close' }))
  t.match(await firstBytes(taken), /^HTTP\/1\.1 100 Continue/)
  taken.write(fakeMp4(1000))
  t.match(await taken.rest(), /HTTP\/1\.1 204 /)
})

t.test('a rejection reaches the client, and a client that keeps sending is disconnected', async (t) => {
  const gateway = await startGateway(t)
  const connection = await rawConnection(gateway.url)
  connection.write(
    requestHead('PUT', '/v1/videos/x/content', {
      authorization: 'Bearer wrong',
      'content-type': 'video/mp4',
      'content-length': 1e9,
    }),
  )
  const pump = setInterval(() => connection.write(Buffer.alloc(1000)), 20)
  const answer = await connection.rest(9000)
  clearInterval(pump)
  t.match(answer, /^HTTP\/1\.1 401 /)
  t.ok(connection.socket.closed, 'the connection does not stay')
})

t.test('a deletion during an upload deletes the video on the platform', async (t) => {
  const gateway = await startGateway(t)
  const video = await gateway.create()
  const connection = await beginPut(gateway.url, video.id, 3000)
  connection.write(fakeMp4(1000))
  await gateway.until(video.id, ({ upload }) => upload.bytesReceived === 1000)
  t.equal((await gateway.call('DELETE', `/v1/videos/${video.id}`)).status, 204)
  t.match(await connection.rest(300), /^HTTP\/1\.1 410 /)
  connection.socket.destroy()
  t.equal(clipsOn(gateway), 0)
})

t.test('an interrupted creation with content leaves nothing behind', async (t) => {
  const gateway = await startGateway(t)
  const { body, type } = rawForm(fakeMp4(100_000), {
    fields: '--b0undary\r\nContent-Disposition: form-data; name="title"\r\n\r\nx\r\n',
  })
  const connection = await rawConnection(gateway.url)
  connection.write(
    requestHead('POST', '/v1/videos', { authorization, 'content-type': type, 'content-length': body.length }),
  )
  connection.write(body.subarray(0, 50_000))
  while (gateway.app.gateway.uploads.size === 0) await sleep(5)
  connection.socket.destroy()
  while (gateway.app.gateway.uploads.size > 0 || clipsOn(gateway) > 0) await sleep(5)
  t.same((await gateway.call('GET', '/v1/videos')).body.items, [])
  const counted = /^gateway_http_request_duration_seconds_count\{method="POST",.*status="499"\} 1$/m
  while (!counted.test((await gateway.call('GET', '/metrics')).body)) await sleep(5)
})

t.test('an upload survives the loss of the platform’s response', async (t) => {
  const gateway = await startGateway(t)
  const video = await gateway.create()
  gateway.sandbox.knobs.faults.push({ operation: 'ingest', times: 1, late: true, reset: true })
  t.equal(
    (await gateway.put(video.id, fakeMp4(100_000))).status,
    204,
    'the platform has it, so it is an upload',
  )
  t.not((await gateway.until(video.id, () => true)).stage, 'awaiting-upload')
})

t.test('a slow platform slows the client down without filling the gateway’s memory', async (t) => {
  const gateway = await startGateway(t)
  gateway.sandbox.knobs.read_bytes_per_second = 1_000_000
  const uploads = await Promise.all(Array.from({ length: 10 }, () => gateway.create()))
  let peak = 0
  const watch = setInterval(() => {
    for (const { content } of gateway.app.gateway.uploads.values())
      peak = Math.max(peak, content.stream.readableLength)
  }, 5)
  const answers = await Promise.all(
    uploads.map(({ id }) => gateway.put(id, form({}, fakeMp4(1_000_000)).get('file') as never)),
  )
  clearInterval(watch)
  t.ok(answers.every(({ status }) => status === 204))
  t.ok(peak <= 256 * 1024, `at most ${peak} bytes wait in an upload`)
})
