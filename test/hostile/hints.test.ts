import { randomUUIDv7 } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import t from 'tap'
import { startDouble } from '../platform/doubles/api-video.ts'
import { type Webhooks, webhookRequest, webhooks } from '../platform/webhooks.ts'
import { fakeMp4, startGateway } from '../support/gateway.ts'
import { rawConnection, requestHead } from '../support/raw.ts'

/** Webhooks that nobody but the platform could have sent, and those that somebody else could. */
const secret = 'whk_7f3c1d2e9a'
const old = 'whk_1b2c3d4e5f'
const minute = 60_000
const year = 365 * 24 * 3_600_000

type Request = ReturnType<typeof webhookRequest>
interface Case {
  name: string
  change(
    request: Request,
    vendor: Webhooks,
    ids: { id: string; videoId: string },
  ): Request | Omit<Request, 'body'>
  expected: number
  /** Not for platforms whose signature is over the body alone. */
  timed?: boolean
}

const withBody = (request: Request, vendor: Webhooks, body: Uint8Array): Request => ({
  ...request,
  body: body as Uint8Array<ArrayBuffer>,
  headers: { ...request.headers, [vendor.header]: vendor.sign(secret, body) },
})
const withHeader = (request: Request, vendor: Webhooks, value: string): Request => ({
  ...request,
  headers: { ...request.headers, [vendor.header]: value },
})
const withType = (type: string) => (request: Request) => ({
  ...request,
  headers: { ...request.headers, 'content-type': type },
})
const flipped = (text: string) => text.replace(/.(?=.$)/, (character) => (character === 'a' ? 'b' : 'a'))

const cases: Case[] = [
  { name: 'as the platform sends it', change: (request) => request, expected: 204 },
  {
    name: 'with the secret before',
    change: (_, vendor, ids) => webhookRequest(vendor, old, ids),
    expected: 204,
  },
  {
    name: 'four minutes old',
    change: (_, v, ids) => webhookRequest(v, secret, ids, Date.now() - 4 * minute),
    expected: 204,
  },
  {
    name: 'six minutes old',
    change: (_, v, ids) => webhookRequest(v, secret, ids, Date.now() - 6 * minute),
    expected: 401,
  },
  {
    name: 'from last year',
    change: (_, v, ids) => webhookRequest(v, secret, ids, Date.now() - year),
    expected: 401,
  },
  {
    name: 'from next year',
    change: (_, v, ids) => webhookRequest(v, secret, ids, Date.now() + year),
    expected: 401,
  },
  {
    name: 'another secret',
    change: (_, vendor, ids) => webhookRequest(vendor, 'guessed', ids),
    expected: 401,
  },
  { name: 'the empty secret', change: (_, vendor, ids) => webhookRequest(vendor, '', ids), expected: 401 },
  {
    name: 'both secrets, as they are configured',
    change: (_, vendor, ids) => webhookRequest(vendor, `${secret},${old}`, ids),
    expected: 401,
  },
  {
    name: 'a body changed by a byte',
    change: (request) => ({
      ...request,
      body: Buffer.from(request.body.toString().replace('1', '2')) as never,
    }),
    expected: 401,
  },
  {
    name: 'a body with a byte more',
    change: (request) => ({ ...request, body: Buffer.concat([request.body, Buffer.from(' ')]) as never }),
    expected: 401,
  },
  { name: 'no body', change: ({ method, headers }) => ({ method, headers }), expected: 401 },
  { name: 'an empty body, signed', change: (r, v) => withBody(r, v, Buffer.alloc(0)), expected: 400 },
  {
    name: 'no signature',
    change: ({ headers, ...r }) => ({ ...r, headers: { 'content-type': 'application/json' } }),
    expected: 401,
  },
  { name: 'an empty signature', change: (r, v) => withHeader(r, v, ''), expected: 401 },
  { name: 'a signature of one character', change: (r, v) => withHeader(r, v, 'x'), expected: 401 },
  {
    name: 'a signature changed by a bit',
    change: (r, v) => withHeader(r, v, flipped(r.headers[v.header]!)),
    expected: 401,
  },
  {
    name: 'a signature cut short',
    change: (r, v) => withHeader(r, v, r.headers[v.header]!.slice(0, -2)),
    expected: 401,
  },
  {
    name: 'a signature and more',
    change: (r, v) => withHeader(r, v, `${r.headers[v.header]}00`),
    expected: 401,
  },
  {
    name: 'a newer time with the old signature',
    change: (_, v, ids) => {
      const late = webhookRequest(v, secret, ids, Date.now() - year)
      const now = v.sign('any', late.body)
      return withHeader(
        late,
        v,
        late.headers[v.header]!.replace(/^(t=|time=)?[^,;]*/, /^[^,;]*/.exec(now)![0]),
      )
    },
    expected: 401,
  },
  { name: 'no JSON, signed', change: (r, v) => withBody(r, v, Buffer.from('hello')), expected: 400 },
  {
    name: 'no UTF-8, signed',
    change: (r, v) => withBody(r, v, Buffer.from([0x7b, 0xff, 0xfe, 0x7d])),
    expected: 400,
  },
  {
    name: 'half of the JSON, signed',
    change: (r, v) => withBody(r, v, r.body.subarray(0, 20)),
    expected: 400,
  },
  { name: 'gzip under another name', change: (r, v) => withBody(r, v, gzipSync(r.body)), expected: 400 },
  {
    name: 'gzip',
    change: (r, v) => {
      const zipped = withBody(r, v, gzipSync(r.body))
      return { ...zipped, headers: { ...zipped.headers, 'content-encoding': 'gzip' } }
    },
    expected: 415,
  },
  { name: 'as a form', change: withType('application/x-www-form-urlencoded'), expected: 204 },
  { name: 'as an mp4', change: withType('video/mp4'), expected: 204 },
  { name: 'as another form', change: withType('multipart/form-data; boundary=x'), expected: 204 },
  { name: 'as text', change: withType('text/plain; charset=latin1'), expected: 204 },
  {
    name: 'with a bearer token of nobody',
    change: (r) => ({ ...r, headers: { ...r.headers, authorization: 'Bearer nobody' } }),
    expected: 204,
  },
  { name: 'all that is allowed', change: (r, v) => withBody(r, v, padded(r, 256 * 1024)), expected: 204 },
  {
    name: 'a byte more than that',
    change: (r, v) => withBody(r, v, padded(r, 256 * 1024 + 1)),
    expected: 413,
  },
  { name: '10 MB', change: (r, v) => withBody(r, v, padded(r, 10_000_000)), expected: 413 },
  ...[null, [], 7, 'x', {}, { data: null }, { data: [] }, { creator: 7 }, { external_ref: {} }].map(
    (value) => ({
      name: `signed ${JSON.stringify(value)}`,
      change: (r: Request, v: Webhooks) => withBody(r, v, Buffer.from(JSON.stringify(value))),
      expected: 204,
      timed: true,
    }),
  ),
]

/** The body with white space in front of its end. */
function padded({ body }: Request, length: number): Buffer {
  const text = body.toString()
  return Buffer.from(text.slice(0, -1).padEnd(length - 1) + text.slice(-1))
}

t.test('every platform accepts only genuine webhooks', async (t) => {
  const double = await startDouble()
  t.teardown(() => double.close())
  const names = Object.keys(webhooks)
  const secrets = Object.fromEntries(names.map((name) => [webhooks[name]!.variable, `${secret},${old}`]))
  const logged: string[] = []
  const gateway = await startGateway(t, {
    env: {
      ...secrets,
      ...double.variables,
      POLL_INITIAL_DELAY: '10m',
      PLATFORMS: `sandbox,mux,cloudflare-stream,api-video,peertube`,
      MUX_TOKEN_ID: 'id',
      MUX_TOKEN_SECRET: 'token',
      MUX_BASE_URL: double.variables.API_VIDEO_BASE_URL!,
      CLOUDFLARE_STREAM_BASE_URL: double.variables.API_VIDEO_BASE_URL!,
      CLOUDFLARE_STREAM_ACCOUNT_ID: 'account',
      CLOUDFLARE_STREAM_API_TOKEN: 'token',
      PEERTUBE_BASE_URL: double.variables.API_VIDEO_BASE_URL!,
      PEERTUBE_USERNAME: 'user',
      PEERTUBE_PASSWORD: 'password',
    },
    logger: { level: 'info', stream: { write: (line: string) => void logged.push(line) } },
  })
  const { url } = gateway
  const send = async (name: string, request: object) => {
    const response = await fetch(`${url}/v1/platforms/${name}/webhook`, request)
    const text = await response.text()
    if (response.status !== 429) return { status: response.status, headers: response.headers, text }
    await new Promise((resolve) => setTimeout(resolve, 1_000))
    return send(name, request)
  }
  const video = await gateway.create({ platform: 'sandbox' })
  await gateway.put(video.id, fakeMp4(1_000))
  const before = (await gateway.call('GET', `/v1/videos/${video.id}/status`)).body

  for (const name of names) {
    const vendor = webhooks[name]!
    const ids = { id: randomUUIDv7(), videoId: 'vi1' }
    await t.test(name, async (t) => {
      for (const { name: title, change, expected, timed } of cases) {
        const isUntimed = timed && name === 'api-video'
        const { status, headers, text } = await send(
          name,
          change(webhookRequest(vendor, secret, ids), vendor, ids),
        )
        t.equal(status, isUntimed ? 401 : expected, `${title}: ${text}`)
        if (status !== 401) continue
        t.match(headers.get('www-authenticate'), /^Webhook-Signature /)
        t.notMatch(JSON.parse(text).detail, /time|ago|header|secret fits/, 'the sender is not told why')
      }
      for (const other of names.filter((other) => other !== name)) {
        const request = webhookRequest(webhooks[other]!, secret, ids)
        t.equal((await send(name, request)).status, 401, `that of ${other}`)
      }
    })
  }

  await t.test('several signatures are accepted while a secret is rotated', async (t) => {
    const vendor = webhooks.mux!
    const request = webhookRequest(vendor, secret, { id: randomUUIDv7(), videoId: 'a' })
    const [time, right] = request.headers[vendor.header]!.split(',') as [string, string]
    const wrong = `v1=${'0'.repeat(64)}`
    const headers: [string, number][] = [
      [`${time},${wrong},${right}`, 204],
      [`${time}, ${right}, ${wrong}`, 204],
      [`${right},${time}`, 204],
      [`${time},v0=x,v2=y,${right}`, 204],
      [`${time},${wrong},${wrong}`, 401],
      [`${time},${`${wrong},`.repeat(50)}${right}`, 401],
      [`${time},t=1,${right}`, 401],
      [`t=1,${time},${right}`, 401],
      [`${right}`, 401],
      [`${time}`, 401],
      [`t=${'9'.repeat(40)},${right}`, 401],
      [`t=1e9,${right}`, 401],
      [`t=-1,${right}`, 401],
      [`t=,${right}`, 401],
      [`${time},v0=${right.slice(3)}`, 401],
    ]
    for (const [header, expected] of headers)
      t.equal((await send('mux', withHeader(request, vendor, header))).status, expected, header.slice(0, 80))
  })

  await t.test('a repeated header, half a body and no body are rejected', async (t) => {
    const vendor = webhooks.mux!
    const { body, headers } = webhookRequest(vendor, secret, { id: randomUUIDv7(), videoId: 'a' })
    const head = (extra: string, length: number) =>
      requestHead('POST', '/v1/platforms/mux/webhook', {
        connection: 'close',
        'content-length': length,
        [vendor.header]: headers[vendor.header]!,
      }).replace('\r\n\r\n', `\r\n${extra}\r\n`)
    const twice = await rawConnection(url)
    twice.write(head(`${vendor.header}: ${headers[vendor.header]}\r\n`, body.length))
    twice.write(body)
    t.match(await twice.rest(), /^HTTP\/1.1 401 /)
    const untyped = await rawConnection(url)
    untyped.write(head('', body.length))
    untyped.write(body)
    t.match(await untyped.rest(), /^HTTP\/1.1 204 /, 'without a type')
    const half = await rawConnection(url)
    half.write(head('', body.length))
    half.write(body.subarray(0, 30))
    half.socket.end()
    t.match(await half.rest(), /^HTTP\/1.1 400 /)
    const dripping = await rawConnection(url)
    dripping.write(head('content-type: video/mp4\r\n', body.length))
    dripping.write(body.subarray(0, 30))
    t.match(await dripping.rest(12_000), /^HTTP\/1.1 408 /, 'a body that does not come')
  })

  await t.test('platforms without webhooks return 404', async (t) => {
    const request = webhookRequest(webhooks.mux!, secret, { id: randomUUIDv7(), videoId: 'a' })
    t.match(await send('peertube', request), { status: 404, text: /has no webhooks/ })
    for (const name of ['vimeo', '__proto__', 'constructor', '%00', 'MUX'])
      t.equal((await send(name, request)).status, 404, name)
    t.equal((await gateway.call('GET', '/v1/platforms/mux/webhook')).status, 405)
  })

  await t.test('at most 100 forged webhooks per second are checked', async (t) => {
    const request = webhookRequest(webhooks.mux!, 'guessed', { id: video.id, videoId: 'a' })
    const begun = performance.now()
    const answers = await Promise.all(
      Array.from({ length: 1_000 }, () => fetch(`${url}/v1/platforms/mux/webhook`, request)),
    )
    const seconds = Math.ceil((performance.now() - begun) / 1_000)
    const [rejected, limited] = [401, 429].map((code) => answers.filter(({ status }) => status === code))
    t.equal(rejected!.length + limited!.length, 1_000)
    t.ok(rejected!.length <= 100 * (seconds + 1), `${rejected!.length} are looked at in ${seconds} s`)
    t.ok(limited!.every(({ headers }) => headers.has('retry-after')))
    await Promise.all(answers.map((answer) => answer.arrayBuffer()))
  })

  const after = (await gateway.call('GET', `/v1/videos/${video.id}/status`)).body
  t.strictSame(after, before, 'no forged hint changed anything')
  t.ok(
    logged.some((line) => line.includes('no signature matches')),
    'the log has the reason',
  )
  t.strictSame(
    logged.filter((line) => line.includes(secret) || line.includes(old)),
    [],
    'and no secret',
  )
  t.match(double.violations, [])
})

t.test('without a secret the path of the webhooks is 404', async (t) => {
  const gateway = await startGateway(t)
  const request = webhookRequest(webhooks.sandbox!, '', { id: randomUUIDv7(), videoId: 'a' })
  const response = await fetch(`${gateway.url}/v1/platforms/sandbox/webhook`, request)
  t.equal(response.status, 404)
  t.match(await response.json(), { code: 'not-found', detail: /Set SANDBOX_WEBHOOK_SECRET/ })
})
