import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { GatewayProblem, type Progress, VideoGateway } from '../../client/src/index.ts'
import { fakeMp4, key, startGateway } from '../support/gateway.ts'

t.test('a whole publication, with its progress', async (t) => {
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

t.test('an idempotency key makes one video of two calls', async (t) => {
  const { url } = await startGateway(t)
  const gateway = new VideoGateway({ url, token: key })
  const first = await gateway.create({ title: 'x' }, { idempotencyKey: 'k' })
  t.equal((await gateway.create({ title: 'x' }, { idempotencyKey: 'k' })).id, first.id)
  await t.rejects(gateway.create({ title: 'y' }, { idempotencyKey: 'k' }), { code: 'idempotency-key-reused' })
})

t.test('problems say what is wrong, and whether a retry makes sense', async (t) => {
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

t.test('an upload that is refused, of any size, ends with the reason', async (t) => {
  const { url } = await startGateway(t)
  const gateway = new VideoGateway({ url, token: key })
  const { id } = await gateway.create({ title: 'x' })
  await t.rejects(gateway.upload(id, new Blob(['no mp4 at all'])), { code: 'unsupported-media-type' })
  await t.rejects(gateway.upload(id, new Blob([])), { code: 'incomplete-upload' })
  await gateway.upload(id, new Blob([readFileSync('sandbox/sample.mp4')]))
  const large = new Blob([new Uint8Array(fakeMp4(20_000_000))])
  await t.rejects(gateway.upload(id, large), { code: 'content-already-uploaded' })
})

t.test('content comes from anywhere, with or without a size', async (t) => {
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

t.test('a source that breaks and a caller who aborts leave a slot that takes the next upload', async (t) => {
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
  // Gateway and platform may take a moment to notice that the upload was cut.
  const again = () => gateway.upload(id, new Blob([readFileSync('sandbox/sample.mp4')]))
  for (let done = false; !done; await sleep(20)) {
    done = await again().then(
      () => true,
      (error: GatewayProblem) => {
        if (!error.transient && error.code !== 'upload-in-progress') throw error
        return false
      },
    )
  }
  t.match(await gateway.waitUntilReady(id), { status: 'ready' })
})

t.test('every operation on videos has its method', async (t) => {
  const { paths } = JSON.parse(readFileSync('openapi/openapi.json', 'utf8'))
  const operations = Object.entries(paths as Record<string, Record<string, { operationId: string }>>)
    .filter(([path]) => path.startsWith('/v1/'))
    .flatMap(([, item]) => Object.values(item).map(({ operationId }) => operationId))
  const methods = {
    createVideo: 'create',
    listVideos: 'list',
    getVideo: 'get',
    deleteVideo: 'remove',
    putContent: 'upload',
    postContent: 'upload',
    getStatus: 'status',
    getInfo: 'info',
    getThumbnail: 'thumbnail',
  }
  t.strictSame(operations.sort(), Object.keys(methods).sort())
  for (const method of Object.values(methods)) t.type(Reflect.get(VideoGateway.prototype, method), 'function')
})
