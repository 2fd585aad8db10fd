import { randomBytes } from 'node:crypto'
import t, { type Test } from 'tap'
import { createPlatformHttp } from '../../../src/platform/http/http.ts'
import { fixedAuthorization } from '../../../src/platform/http/token-cache.ts'
import { defaultTools } from '../../../src/platform/tools.ts'
import { uploadByteRanges } from '../../../src/platform/upload/byte-ranges.ts'
import { contentOf } from '../conformance/setup.ts'
import { createKit, type Exchange, type Fault, type Kit } from '../double.ts'
import { createByteRanges } from '../doubles/byte-ranges.ts'

const chunkSize = 256 * 1024
const silent = () => {}

/** A session at `/session`, and the HTTP to reach it by. */
async function serve(t: Test, handle?: (exchange: Exchange) => void) {
  const kit: Kit = createKit()
  let content: Buffer | undefined
  const ranges = createByteRanges({
    violate: (text) => void kit.violations.push(text),
    finished: (_id, bytes) => {
      content = bytes
    },
  })
  const baseUrl = await kit.listen({
    operations: () => ['upload'],
    handle: (exchange) => (handle ? handle(exchange) : ranges.handle(exchange, 'session')),
    cut: (exchange, bytes) => ranges.cut(exchange, 'session', bytes),
  })
  const log = { info: silent, warn: silent, error: silent }
  const observer = { call() {}, circuit() {}, tokenRequest() {} }
  const tools = { ...defaultTools, log, observer }
  const http = createPlatformHttp({
    name: 'mux',
    baseUrl,
    authorization: fixedAuthorization('secret'),
    tools,
  })
  t.teardown(async () => {
    await http.close()
    await kit.close()
  })
  const upload = (bytes: Buffer) =>
    uploadByteRanges('mux', http, '/session', contentOf(bytes, null), {
      chunkSize,
      firstDelay: 1,
      attempts: 5,
      signal: new AbortController().signal,
    })
  return { kit, upload, content: () => content }
}

t.test('the total is open until the last chunk, for every size', async (t) => {
  for (const size of [1, chunkSize - 1, chunkSize, chunkSize + 1, 3 * chunkSize, 3 * chunkSize + 7]) {
    const { kit, upload, content } = await serve(t)
    const bytes = randomBytes(size)
    await upload(bytes)
    t.ok(content()?.equals(bytes), `${size} bytes`)
    t.strictSame(kit.violations, [])
  }
})

const faults: [string, Fault][] = [
  ['a chunk that is cut at once', { reset: { afterBytes: 0 } }],
  ['a chunk that is cut in the middle', { reset: { afterBytes: 100_000 } }],
  ['a chunk whose answer is lost', { reset: { afterBytes: 0 }, late: true }],
  ['a bucket that is unavailable for a moment', { status: 503 }],
]

for (const [name, fault] of faults)
  t.test(`${name}: the upload continues at the session’s offset`, async (t) => {
    for (const before of [0, 1, 2]) {
      const { kit, upload, content } = await serve(t)
      const bytes = randomBytes(2 * chunkSize + 5)
      for (let sent = 0; sent < before; sent++) kit.fail('upload', { status: 503 }, 1)
      kit.fail('upload', fault)
      await upload(bytes)
      t.ok(content()?.equals(bytes), `after ${before} other failures`)
      t.strictSame(kit.violations, [])
    }
  })

t.test('each unexpected response of a session has its error', async (t) => {
  for (const [name, status, headers, code] of [
    ['a session that is gone', 404, {}, 'platform-unavailable'],
    ['a session that expired', 410, {}, 'platform-unavailable'],
    ['a signature that is not accepted', 403, {}, 'platform-unauthorized'],
    ['a complete upload before its end', 200, {}, 'platform-protocol-error'],
    ['a range that makes no sense', 308, { range: 'bytes=5-9' }, 'platform-protocol-error'],
    ['an offset that cannot be', 308, { range: 'bytes=0-99999999' }, 'platform-protocol-error'],
    ['no progress', 308, {}, 'platform-unavailable'],
  ] as const) {
    const { upload } = await serve(t, async (exchange) => {
      await exchange.body()
      t.equal(exchange.headers.authorization, undefined, 'without our token')
      exchange.answer(status, undefined, headers)
    })
    await t.rejects(upload(randomBytes(2 * chunkSize)), { code }, name)
  }
})

t.test('a session with every byte that does not complete the upload is platform-unavailable', async (t) => {
  const { upload } = await serve(t, async (exchange) => {
    await exchange.body()
    exchange.answer(308, undefined, { range: 'bytes=0-99' })
  })
  await t.rejects(upload(randomBytes(100)), { code: 'platform-unavailable' })
})
