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

t.test('any status other than 201 means that no upload was created', async (t) => {
  const http = await serve(t, (exchange) => exchange.answer(200, undefined, { location: '/files/1' }))
  const creation = createTusUpload(http, { url: '/files', size: 12, metadata: {}, signal })
  await t.rejects(creation, { code: 'platform-protocol-error' })
})

t.test('after a conflict the offset is requested; a lock is waited out', async (t) => {
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

t.test('an offset that is missing, not a number or out of range is a protocol error', async (t) => {
  for (const offset of [undefined, '', 'ten', '-1', '11', '1.5', '1e30', '0x1', '9'.repeat(30), '5, 5']) {
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

t.test('a lock or a conflict is handled on HEAD as on PATCH', async (t) => {
  const bytes = randomBytes(12)
  for (const busy of [[423], [409], [423, 423, 409], [503], [423, 503, 409]]) {
    const server = createTusDouble()
    const answers: Record<string, number[]> = { PATCH: [503], HEAD: [...busy] }
    const http = await serve(t, (exchange) => server.handle(exchange, answers[exchange.method]?.shift()))
    await uploadByTus(http, '/files/1', contentOf(bytes), { chunkSize: 4, signal, firstDelay: 1 })
    t.ok(server.received().equals(bytes), busy.join())
  }
})

t.test(
  'a lock that lasts longer than all attempts is a failure of the platform, not of the file',
  async (t) => {
    for (const [method, status] of [
      ['PATCH', 423],
      ['PATCH', 409],
      ['HEAD', 423],
      ['HEAD', 409],
    ] as const) {
      const server = createTusDouble()
      const http = await serve(t, (exchange) => {
        const odd = exchange.method === method ? status : exchange.method === 'PATCH' ? 503 : undefined
        return server.handle(exchange, odd)
      })
      const content = contentOf(randomBytes(10))
      const upload = uploadByTus(http, '/files/1', content, {
        chunkSize: 4,
        signal,
        firstDelay: 1,
        attempts: 3,
      })
      await t.rejects(upload, { code: 'platform-unavailable' }, `${method} ${status}`)
      t.ok(content.stream.destroyed)
    }
  },
)

t.test('an impossible offset from HEAD is a protocol error', async (t) => {
  for (const offset of [
    undefined,
    '',
    'ten',
    '-1',
    '9',
    '1.5',
    '1e30',
    '1e1',
    '0x4',
    '9'.repeat(30),
    '4, 4',
    '0',
  ]) {
    const server = createTusDouble()
    const http = await serve(t, async (exchange) => {
      // The second chunk begins at 4 and ends at 8.
      if (exchange.method === 'PATCH')
        return server.handle(exchange, server.received().length === 4 ? 503 : undefined)
      exchange.answer(200, undefined, offset === undefined ? {} : { 'upload-offset': offset })
    })
    const upload = uploadByTus(http, '/files/1', contentOf(randomBytes(12)), {
      chunkSize: 4,
      signal,
      firstDelay: 1,
    })
    await t.rejects(upload, { code: 'platform-protocol-error' }, String(offset))
  }
})

t.test('an upload that expires or is deleted during the transfer is lost, and not retried', async (t) => {
  for (const status of [404, 410])
    for (const after of [0, 4, 8])
      for (const method of ['PATCH', 'HEAD']) {
        const server = createTusDouble()
        let refusals = 0
        const http = await serve(t, (exchange) => {
          if (server.received().length < after) return server.handle(exchange)
          const gone = exchange.method === method
          if (gone) refusals += 1
          return server.handle(exchange, gone ? status : 503)
        })
        const content = contentOf(randomBytes(10))
        const upload = uploadByTus(http, '/files/1', content, { chunkSize: 4, signal, firstDelay: 1 })
        const lost = { code: 'platform-unavailable', message: /lost the upload session/ }
        await t.rejects(upload, lost, `${method} ${status} after ${after}`)
        t.equal(refusals, 1)
        t.ok(content.stream.destroyed)
      }
})

/** A tus server with one upload, `/files/1`. */
function createTusDouble() {
  let received = Buffer.alloc(0)
  return {
    received: () => received,
    /** @param odd is answered instead, and nothing is taken */
    async handle(exchange: Exchange, odd?: number) {
      const { bytes } = await exchange.body()
      if (odd !== undefined) return exchange.answer(odd)
      if (exchange.method === 'PATCH') received = Buffer.concat([received, bytes])
      exchange.answer(exchange.method === 'PATCH' ? 204 : 200, undefined, {
        'upload-offset': String(received.length),
      })
    },
  }
}

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
