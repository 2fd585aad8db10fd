import { createReadStream, openAsBlob, readFileSync } from 'node:fs'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import {
  type Content,
  clientCredentials,
  GatewayProblem,
  type Progress,
  VideoGateway,
} from '../../client/src/index.ts'
import { fakeMp4, key, startGateway } from '../support/gateway.ts'

t.test('a video is published with progress reports', async (t) => {
  const { url } = await startGateway(t)
  const gateway = new VideoGateway({ url: `${url}/`, token: key })
  const video = await gateway.create({ title: 'Evening news', reference: 'cms-4711' })
  t.match(video, { status: 'pending', stage: 'awaiting-upload', reference: 'cms-4711' })

  const content = new Blob([readFileSync('sandbox/sample.mp4')])
  const seen: Progress[] = []
  await gateway.upload(video.id, content, { onProgress: (progress) => seen.push(progress) })
  t.ok(seen.length > 1, 'even a blob in memory shows progress')
  t.ok(seen.every(({ sent }, i) => sent > (seen[i - 1]?.sent ?? 0)))
  t.strictSame(seen.at(-1), { sent: content.size, total: content.size })

  const stages: string[] = []
  const ready = await gateway.waitUntilReady(video.id, { onStatus: ({ stage }) => stages.push(stage) })
  t.match(ready, { id: video.id, status: 'ready' })
  t.equal(stages.at(-1), 'ready')
  t.match(await gateway.status(video.id), { status: 'ready', upload: { bytesReceived: content.size } })
  t.match(await gateway.info(video.id), { launchUrl: /^http/, width: 640, height: 360 })
  t.match(await gateway.thumbnail(video.id), { url: /^http/, mimeType: 'image/jpeg' })
  t.match(await gateway.get(video.id), { title: 'Evening news', stage: 'ready' })
  t.match(await gateway.list({ reference: 'cms-4711', limit: 1 }), { items: [{ id: video.id }] })
  t.strictSame((await gateway.list({ reference: 'a & b', status: undefined as never })).items, [])

  await gateway.remove(video.id)
  await gateway.remove(video.id)
  await t.rejects(gateway.get(video.id), { name: 'GatewayProblem', code: 'video-deleted', status: 410 })
})

t.test('two calls with the same idempotency key make one video', async (t) => {
  const { url } = await startGateway(t)
  const gateway = new VideoGateway({ url, token: key })
  const first = await gateway.create({ title: 'x' }, { idempotencyKey: 'k' })
  t.equal((await gateway.create({ title: 'x' }, { idempotencyKey: 'k' })).id, first.id)
  await t.rejects(gateway.create({ title: 'y' }, { idempotencyKey: 'k' }), { code: 'idempotency-key-reused' })
})

t.test('an error has the problem’s fields, and says whether it is transient', async (t) => {
  const { url } = await startGateway(t)
  const gateway = new VideoGateway({ url, token: key })
  const invalid = await gateway.create({ title: '' }).catch((error) => error)
  t.match(invalid, { code: 'invalid-request', status: 400, errors: [{ path: '/title' }], requestId: /./ })
  t.match(invalid.message, /\/title /)
  t.equal(invalid.transient, false)
  t.equal(new GatewayProblem({ status: 503, code: 'platform-throttled' }).transient, true)
  const stranger = new VideoGateway({ url, token: 'vgk_wrong' })
  await t.rejects(stranger.list(), { code: 'unauthorized', status: 401 })
  await t.rejects(gateway.get('../health/live'), { code: 'video-not-found' }, 'ids cannot lead elsewhere')
})

t.test('an upload that is rejected, of any size, ends with the reason', async (t) => {
  const { url } = await startGateway(t)
  const gateway = new VideoGateway({ url, token: key })
  const { id } = await gateway.create({ title: 'x' })
  await t.rejects(gateway.upload(id, new Blob(['no mp4 at all'])), { code: 'unsupported-media-type' })
  await t.rejects(gateway.upload(id, new Blob([])), { code: 'incomplete-upload' })
  await gateway.upload(id, new Blob([readFileSync('sandbox/sample.mp4')]))
  const large = new Blob([new Uint8Array(fakeMp4(20_000_000))])
  await t.rejects(gateway.upload(id, large), { code: 'content-already-uploaded' })
})

t.test('content may be any stream, with or without a size', async (t) => {
  const { url } = await startGateway(t)
  const gateway = new VideoGateway({ url, token: key })
  const file = readFileSync('sandbox/sample.mp4')
  for (const size of [file.length, undefined]) {
    const { id } = await gateway.create({ title: 'x' })
    const seen: Progress[] = []
    const bytes = (async function* () {
      yield file.subarray(0, 100_000)
      yield file.subarray(100_000)
    })()
    await gateway.upload(id, { bytes, size }, { onProgress: (progress) => seen.push(progress) })
    t.strictSame(
      seen,
      [100_000, file.length].map((sent) => ({ sent, total: size })),
    )
    t.match(await gateway.waitUntilReady(id), { status: 'ready' })
  }
})

t.test('content may be a path, bytes in memory or a stream', async (t) => {
  const server = await startGateway(t)
  const gateway = new VideoGateway({ url: server.url, token: key })
  const path = 'sandbox/sample.mp4'
  const file = new Uint8Array(readFileSync(path))
  const total = file.length
  const kinds: Record<string, [content: Content, total: number | undefined]> = {
    'a path': [path, total],
    'a URL of a file': [pathToFileURL(path), total],
    'a Blob of a file': [await openAsBlob(path), total],
    'a Buffer': [readFileSync(path), total],
    'a Uint8Array': [file, total],
    'an ArrayBuffer': [file.buffer, total],
    'a part of a Buffer': [Buffer.concat([Buffer.from('xx'), file]).subarray(2), total],
    'a Readable': [createReadStream(path), undefined],
    'a Readable of a few pieces': [Readable.from([file.subarray(0, 10), file.subarray(10)]), undefined],
    'a ReadableStream': [new Blob([file]).stream(), undefined],
    'a ReadableStream of Node': [Readable.toWeb(createReadStream(path)) as never, undefined],
    'a Readable with its size': [{ bytes: createReadStream(path), size: total }, total],
    'a ReadableStream with its size': [{ bytes: new Blob([file]).stream(), size: total }, total],
    'a Buffer with its size': [{ bytes: file, size: total }, total],
  }
  for (const [kind, [content, size]] of Object.entries(kinds)) {
    const { id } = await gateway.create({ title: kind })
    const seen: Progress[] = []
    await gateway.upload(id, content, { onProgress: (progress) => seen.push(progress) })
    t.strictSame(seen.at(-1), { sent: total, total: size }, kind)
    t.match(await server.until(id, ({ status }) => status !== 'pending'), { status: 'ready' }, kind)
  }
})

t.test('other content is rejected with the expected types, and the slot stays free', async (t) => {
  const { url } = await startGateway(t)
  const gateway = new VideoGateway({ url, token: key })
  const { id } = await gateway.create({ title: 'x' })
  const expected =
    /^content must be the path of a file, a Blob, a Buffer .* \{ bytes, size \} of these; this is /
  const used = new Blob([new Uint8Array(100)]).stream()
  used.getReader()
  const cases: [content: unknown, message: RegExp][] = [
    [undefined, /this is undefined$/],
    [null, /this is null$/],
    [42, /this is a number$/],
    [{}, /this is an object with nothing$/],
    [{ path: 'sandbox/sample.mp4' }, /this is an object with path$/],
    [new Map(), /this is a Map$/],
    [Promise.resolve(fakeMp4(100)), /this is a Promise$/],
    [[1, 2], /this is a Array$/],
    [{ bytes: fakeMp4(100), size: '100' }, /this is an object with bytes, size$/],
    [{ bytes: fakeMp4(100), size: -1 }, /this is an object with bytes, size$/],
    [{ bytes: 'sandbox/sample.mp4' }, /this is an object with bytes$/],
  ]
  for (const [content, message] of cases) {
    const error = await gateway.upload(id, content as Content).catch((error) => error)
    t.match(error, { name: 'TypeError', message: expected }, error.message)
    t.match(error.message, message)
  }
  for (const [content, message] of [
    ['nowhere.mp4', /^nowhere\.mp4 cannot be read: there is no such file$/],
    ['', /^ cannot be read: /],
    ['sandbox', /^sandbox is a directory: name one MP4 file$/],
    [new URL('https://video.example/a.mp4'), /^https:.* cannot be read: .*scheme file/],
    [used, /locked/],
  ] as [Content, RegExp][])
    await t.rejects(gateway.upload(id, content), { message })
  for (const text of [
    createReadStream('sandbox/sample.mp4', 'latin1'),
    Readable.from(['text']),
    new ReadableStream({ start: (controller) => controller.enqueue('text') }),
  ])
    await t.rejects(gateway.upload(id, text as never), {
      name: 'TypeError',
      message: /must yield Uint8Array, without an encoding; this one yields a string/,
    })
  await t.resolves(until(() => gateway.upload(id, 'sandbox/sample.mp4')))
})

t.test('an invalid base URL is rejected before a request is sent', async (t) => {
  const cases: [url: string, message: RegExp][] = [
    ['', /begin with https:/],
    ['localhost:3000', /begin with https:/],
    ['127.0.0.1:3000', /begin with https:/],
    ['//gateway', /begin with https:/],
    ['ftp://gateway', /begin with https:/],
    ['http://', /begin with https:/],
    ['http://user:secret@gateway', /no user/],
    ['http://gateway?x=1', /no user, query or fragment/],
    ['http://gateway/v1/', /ends before \/v1/],
    ['http://gateway/below/v1', /ends before \/v1/],
  ]
  for (const [url, message] of cases) {
    t.throws(() => new VideoGateway({ url, token: key }), { name: 'TypeError', message }, url)
    t.throws(() => clientCredentials({ url, clientId: 'x', clientSecret: 'y' }), { message }, url)
  }
  for (const url of ['https://gateway', 'http://gateway/', 'http://gateway/below/', 'HTTP://[::1]:3000'])
    t.doesNotThrow(() => new VideoGateway({ url, token: key }), url)
})

t.test('after a failed source or an abort, the slot accepts the next upload', async (t) => {
  const server = await startGateway(t)
  const gateway = new VideoGateway({ url: server.url, token: key })
  const { id } = await gateway.create({ title: 'x' })

  const broken = (async function* () {
    yield fakeMp4(100_000)
    throw new Error('the disk is gone')
  })()
  const failure = await gateway.upload(id, { bytes: broken, size: 200_000 }).catch((error) => error)
  t.match(failure, { name: 'TypeError', cause: { message: 'the disk is gone' } })
  await server.until(id, ({ stage }) => stage === 'awaiting-upload')

  const cancel = new AbortController()
  let closed = false
  const endless = (async function* () {
    try {
      yield fakeMp4(100_000)
      for (;;) yield new Uint8Array(100_000)
    } finally {
      closed = true
    }
  })()
  const onProgress = ({ sent }: Progress) => sent > 1_000_000 && cancel.abort(new Error('changed my mind'))
  const upload = gateway.upload(id, { bytes: endless }, { onProgress, signal: cancel.signal })
  await t.rejects(upload, { message: 'changed my mind' })
  await server.until(id, ({ stage }) => stage === 'awaiting-upload')
  t.ok(closed, 'the source is closed')
  await until(() => gateway.upload(id, new Blob([readFileSync('sandbox/sample.mp4')])))
  t.match(await gateway.waitUntilReady(id), { status: 'ready' })
})

/** Tries again: gateway and platform may take a moment to notice that the upload before was cut. */
async function until(again: () => Promise<void>): Promise<void> {
  for (let done = false; !done; await sleep(20)) {
    done = await again().then(
      () => true,
      (error: GatewayProblem) => {
        if (!error.transient && error.code !== 'upload-in-progress') throw error
        return false
      },
    )
  }
}

t.test('the client has a method for every operation', async (t) => {
  const { paths } = JSON.parse(readFileSync('openapi/openapi.json', 'utf8'))
  const operations = Object.entries(paths as Record<string, Record<string, { operationId: string }>>)
    .filter(([path]) => path.startsWith('/v1/') && path !== '/v1/platforms/{name}/webhook')
    .flatMap(([, item]) => Object.values(item).map(({ operationId }) => operationId))
  const methods = {
    createVideo: 'create',
    createVideoWithContent: 'create',
    listVideos: 'list',
    getVideo: 'get',
    deleteVideo: 'remove',
    putContent: 'upload',
    postContent: 'upload',
    listEvents: 'listEvents',
    getStatus: 'status',
    getInfo: 'info',
    getThumbnail: 'thumbnail',
  }
  const webhookMethods = {
    createWebhook: 'create',
    listWebhooks: 'list',
    getWebhook: 'get',
    updateWebhook: 'update',
    deleteWebhook: 'remove',
    renewWebhookSecret: 'renewSecret',
    testWebhook: 'test',
    listDeliveries: 'deliveries',
    resendEvent: 'resend',
    resendEvents: 'resendSince',
  }
  t.strictSame(operations.sort(), Object.keys({ ...methods, ...webhookMethods }).sort())
  const gateway = new VideoGateway({ url: 'http://127.0.0.1:1', token: key })
  for (const method of Object.values(methods)) t.type(Reflect.get(gateway, method), 'function')
  for (const method of Object.values(webhookMethods))
    t.type(Reflect.get(gateway.webhooks, method), 'function')
})
