import { Readable } from 'node:stream'
import fc from 'fast-check'
import Fastify from 'fastify'
import t from 'tap'
import { loadConfig } from '../src/config/config.ts'
import { GatewayError, problems } from '../src/errors.ts'
import { readForm } from '../src/http/multipart.ts'
import { errorForStatus, maxRetryAfter, retryAfterOf } from '../src/platform/http/failures.ts'
import { startGateway } from './support/gateway.ts'

/** RFC 2046 §5.1.1: what a boundary may hold; it does not end with a space. */
const boundaryChars = "0123456789abcdefXYZ'()+_,-./:=?"
const boundary = fc
  .string({ unit: fc.constantFrom(...boundaryChars, ' '), maxLength: 40 })
  .map((text) => `b${text}e`)
const padding = fc.constantFrom('', '', '', '', ' ', '\t')
/** Anything, line ends and dashes more often than not, as they are what a parser may stumble over. */
const bytes = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 300 }).map((array) => Buffer.from(array).toString('latin1')),
  fc.string({
    unit: fc.constantFrom('\r', '\n', '-', '\r\n', '\r\n-', '\r\n--', 'x'),
    minLength: 1,
    maxLength: 80,
  }),
)

t.test('the size of a file in a form is exact, however the form is framed', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.addContentTypeParser('multipart/form-data', (_request, _payload, done) => done(null))
  app.setErrorHandler((error, _request, reply) =>
    reply
      .code(error instanceof GatewayError ? problems[error.code].status : 500)
      .send({ error: String(error) }),
  )
  app.post('/', async (request) => {
    const { fields, incoming } = await readForm(request, ['title', 'description'])
    const sizes = await incoming.possibleSizes?.()
    const chunks: Buffer[] = []
    for await (const chunk of incoming.source) chunks.push(chunk as Buffer)
    return { fields, sizes, content: Buffer.concat(chunks).toString('latin1') }
  })

  let told = 0
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        boundary,
        preamble: fc.constantFrom('', '\r\n', 'This is a multi-part message.\r\n', '--\r\n'),
        fields: fc.array(fc.string({ unit: 'grapheme', maxLength: 50 }), { maxLength: 2 }),
        headers: fc.constantFrom('', 'Content-Length: 1\r\n', 'X-Other: a:b;c="d"\r\n'),
        content: bytes,
        padding,
        filename: fc.constantFrom('a.mp4', 'a;b.mp4', 'ä.mp4', '--x--.mp4'),
        cut: fc.integer({ min: 1, max: 200 }),
      }),
      async ({ boundary, preamble, fields, headers, content, padding, filename, cut }) => {
        const delimiter = `--${boundary}`
        fc.pre(!content.includes(`\r\n${delimiter}`) && !fields.some((text) => text.includes(delimiter)))
        const names = ['title', 'description']
        const parts = fields.map(
          (text, index) =>
            `${delimiter}${padding}\r\nContent-Disposition: form-data; name="${names[index]}"\r\n\r\n${Buffer.from(text).toString('latin1')}\r\n`,
        )
        const disposition = `form-data; name="file"; filename="${Buffer.from(filename).toString('latin1')}"`
        const head = `${delimiter}${padding}\r\n${headers}Content-Disposition: ${disposition}\r\nContent-Type: video/mp4\r\n\r\n`
        const body = Buffer.from(
          `${preamble}${parts.join('')}${head}${content}\r\n${delimiter}--\r\n`,
          'latin1',
        )
        const pieces: Buffer[] = []
        for (let at = 0; at < body.length; at += cut) pieces.push(body.subarray(at, at + cut))
        const answer = await app.inject({
          method: 'POST',
          url: '/',
          headers: {
            'content-type': `multipart/form-data; boundary="${boundary}"`,
            'content-length': String(body.length),
          },
          payload: Readable.from(pieces, { objectMode: false }),
        })
        // No composer may generate padding (RFC 2046 §5.1.1), and the parser does not know it: refused, not misread.
        if (padding !== '' && answer.statusCode === 400) return true
        if (answer.statusCode !== 200) throw new Error(`${answer.statusCode}: ${answer.body}`)
        const { sizes, content: received, fields: read } = answer.json()
        if (received !== content) throw new Error(`other content: ${JSON.stringify(received)}`)
        // None is honest: it was not found out. A wrong number would cut or break an upload.
        if (!sizes.includes(content.length)) throw new Error(`${sizes} for ${content.length}`)
        if (sizes.length === 1) told++
        return fields.every((text, index) => read[names[index] as string] === text)
      },
    ),
    { numRuns: 400 },
  )
  t.ok(told > 200, `the size was found out ${told} times of 400`)
})

t.test('a cursor that the gateway did not issue is rejected', async (t) => {
  const gateway = await startGateway(t)
  const id = (await gateway.create()).id
  const list = async (cursor: string) =>
    (
      await gateway.app.server.inject({
        url: '/v1/videos',
        query: { cursor },
        headers: { authorization: 'Bearer vgk_test', host: 'gateway' },
      })
    ).statusCode
  t.equal(await list(Buffer.from(id).toString('base64url')), 200)
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        fc.string({ maxLength: 250 }),
        fc.uint8Array({ maxLength: 150 }).map((array) => Buffer.from(array).toString('base64url')),
        fc.uuid().map((uuid) => `${Buffer.from(uuid).toString('base64url')}=`),
        fc.uuid().map((uuid) => Buffer.from(uuid.toUpperCase().concat('A')).toString('base64url')),
      ),
      async (cursor) => (await list(cursor)) === 400,
    ),
    { numRuns: 200 },
  )
  await fc.assert(
    fc.asyncProperty(
      fc.uuid(),
      async (uuid) => (await list(Buffer.from(uuid).toString('base64url'))) === 200,
    ),
    { numRuns: 50 },
  )
})

t.test('Retry-After is read as a finite number of seconds or ignored', async (t) => {
  const given = (value: string) => retryAfterOf({ 'retry-after': value })
  fc.assert(
    fc.property(
      fc.oneof(fc.string(), fc.stringMatching(/^[ \d+\-.e:,]+$/), fc.date().map(String)),
      (text) => {
        const seconds = given(text)
        const { retryAfter } = errorForStatus('x', 503, { 'retry-after': text })
        return (
          (seconds === undefined ||
            (seconds >= 0 && seconds <= maxRetryAfter && Number.isInteger(seconds))) &&
          retryAfter === seconds
        )
      },
    ),
    { numRuns: 2000 },
  )
  fc.assert(fc.property(fc.nat(), (seconds) => given(String(seconds)) === Math.min(seconds, maxRetryAfter)))
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 10_000_000 }), (seconds) => {
      const told = given(new Date(Date.now() + seconds * 1000).toUTCString())
      return told !== undefined && Math.abs(told - Math.min(seconds, maxRetryAfter)) <= 1
    }),
  )
  t.equal(given('Mon, 01 Jan 1990 00:00:00 GMT'), 0, 'a time gone by is now')
  t.equal(retryAfterOf({ 'retry-after': ['1', '2'] }), undefined)
})

t.test('a size or duration in the environment is read exactly or prevents startup', async (t) => {
  const units = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 }
  const size = (text: string) => loadConfig({ UPLOAD_MAX_BYTES: text }).policy.uploadMaxBytes
  fc.assert(
    fc.property(
      fc.nat(1_000_000),
      fc.constantFrom(...Object.entries(units)),
      (number, [unit, factor]) => size(`${number}${unit}`) === number * factor,
    ),
  )
  const wait = (text: string) => loadConfig({ UPLOAD_IDLE_TIMEOUT: text }).policy.uploadIdleTimeout
  const times = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }
  t.equal(wait('24d'), 24 * 24 * 3_600_000)
  t.throws(() => wait('577h'), { message: 'UPLOAD_IDLE_TIMEOUT: must be at most 24d' })
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 24 * 24 }),
      fc.constantFrom(...Object.entries(times)),
      (number, [unit, factor]) => wait(`${number}${unit}`) === number * factor,
    ),
  )
  fc.assert(
    fc.property(fc.string({ minLength: 1 }), (text) => {
      try {
        return wait(text) > 0
      } catch (error) {
        return /^UPLOAD_IDLE_TIMEOUT: /.test((error as Error).message)
      }
    }),
  )
  t.pass()
})
