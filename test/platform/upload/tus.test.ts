import { randomBytes } from 'node:crypto'
import t, { type Test } from 'tap'
import { createPlatformHttp } from '../../../src/platform/http/http.ts'
import { fixedAuthorization } from '../../../src/platform/http/token-cache.ts'
import { defaultTools, type PlatformTools } from '../../../src/platform/tools.ts'
import { createTusUpload, uploadByTus } from '../../../src/platform/upload/tus.ts'
import { contentOf } from '../conformance/setup.ts'
import { createKit, type Exchange } from '../double.ts'

const signal = new AbortController().signal
const silent = () => {}
const tools: PlatformTools = {
  ...defaultTools,
  log: { info: silent, warn: silent, error: silent },
  observer: { call() {}, circuit() {}, tokenRequest() {} },
}

t.test('creates an upload with its length and metadata', async (t) => {
  let seen: Exchange['headers'] = {}
  const http = await serve(t, (exchange) => {
    seen = exchange.headers
    exchange.answer(201, undefined, { location: '/files/1', 'x-id': 'abc' })
  })
  const metadata = { name: 'Größe, “8 km”', filetype: 'video/mp4' }
  const headers = await createTusUpload(http, {
    url: '/files',
    size: 12,
    metadata,
    signal,
    headers: { 'x-by': 'me' },
  })
  t.match(headers, { location: '/files/1', 'x-id': 'abc' })
  t.match(seen, { 'tus-resumable': '1.0.0', 'upload-length': '12', 'x-by': 'me', 'content-length': '0' })
  t.equal(
    seen['upload-metadata'],
    `name ${Buffer.from('Größe, “8 km”').toString('base64')},filetype ${Buffer.from('video/mp4').toString('base64')}`,
  )
})

t.test('what is no 201 has created nothing', async (t) => {
  const http = await serve(t, (exchange) => exchange.answer(200, undefined, { location: '/files/1' }))
  const creation = createTusUpload(http, { url: '/files', size: 12, metadata: {}, signal })
  await t.rejects(creation, { code: 'platform-protocol-error' })
})

t.test('a conflict is settled by asking for the offset; a lock passes', async (t) => {
  const bytes = randomBytes(10)
  let received = Buffer.alloc(0)
  const calls: string[] = []
  const oddities = [423, 409]
  const http = await serve(t, async (exchange) => {
    const { method, headers } = exchange
    calls.push(`${method} ${headers['upload-offset'] ?? ''}`.trim())
    const { bytes } = await exchange.body()
    const odd = received.length === 4 && method === 'PATCH' ? oddities.shift() : undefined
    // The conflict of a chunk that another connection brought in, just now.
    if (method === 'PATCH' && odd !== 423) received = Buffer.concat([received, bytes])
    exchange.answer(odd ?? 204, undefined, { 'upload-offset': String(received.length) })
  })
  await uploadByTus(http, '/files/1', contentOf(bytes), { chunkSize: 4, signal, firstDelay: 1 })
  t.ok(received.equals(bytes))
  t.strictSame(calls, ['PATCH 0', 'PATCH 4', 'HEAD', 'PATCH 4', 'HEAD', 'PATCH 8'])
})

t.test('an offset that is missing, no number or out of place is nonsense', async (t) => {
  for (const offset of [undefined, '', 'ten', '-1', '11', '1.5']) {
    const http = await serve(t, async (exchange) => {
      await exchange.body()
      exchange.answer(204, undefined, offset === undefined ? {} : { 'upload-offset': offset })
    })
    const content = contentOf(randomBytes(10))
    const upload = uploadByTus(http, '/files/1', content, { chunkSize: 10, signal, firstDelay: 1 })
    await t.rejects(upload, { code: 'platform-protocol-error' }, String(offset))
    t.ok(content.stream.destroyed)
  }
})

t.test('an upload that is gone is not tried again', async (t) => {
  let calls = 0
  const http = await serve(t, async (exchange) => {
    calls += 1
    await exchange.body()
    exchange.answer(410)
  })
  const upload = uploadByTus(http, '/files/1', contentOf(randomBytes(10)), { chunkSize: 10, signal })
  await t.rejects(upload, { code: 'platform-unavailable' })
  t.equal(calls, 1)
})

async function serve(t: Test, handle: (exchange: Exchange) => Promise<void> | void) {
  const kit = createKit()
  const baseUrl = await kit.listen({ operations: () => ['upload'], handle })
  const authorization = fixedAuthorization('Bearer secret')
  const http = createPlatformHttp({ name: 'tus', baseUrl, authorization, tools })
  t.teardown(async () => {
    await http.close()
    await kit.close()
  })
  return http
}
