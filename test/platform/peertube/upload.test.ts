import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { GatewayError } from '../../../src/errors.ts'
import { contentOf, type Setup, scenarios, stuckContent } from '../conformance/setup.ts'
import { startDouble } from '../doubles/peertube.ts'
import { brokenFiles } from '../doubles/peertube-uploads.ts'

/** Slots of PeerTube, which are upload sessions, beyond the conformance suite. */
const scenario = scenarios(t, startDouble)

/** What PeerTube says while it works on a complete file. */
const atWork = {
  status: 503,
  headers: { 'content-type': 'application/problem+json; charset=utf-8', 'retry-after': '300' },
  body: '{}',
}

/** A video whose upload was cut on the caller's side. */
async function cutPublication({ publication, failure }: Setup) {
  const video = publication()
  await video.provision()
  const content = stuckContent(70_000, 66_000)
  const uploading = failure(video.upload(content))
  while (content.pulled() < 66_000) await sleep(5)
  await sleep(50)
  content.stream.destroy(new GatewayError('incomplete-upload'))
  await uploading
  return video
}

scenario('the video is found after the last response is lost', async (t, setup) => {
  const { double, platform, publication } = setup
  for (let others = 0; others < 5; others++) await publication().publish()
  const video = publication()
  await video.provision()
  double.fail('upload', { reset: { afterBytes: 0 }, late: true })
  const bytes = randomBytes(100)
  const lookUps = double.calls('find')
  await video.upload(contentOf(bytes))
  t.equal(double.calls('find'), lookUps + 2, 'the list, and the source of the one that has its title')
  t.equal(double.leftovers(), 6, 'and it is there once')
  t.strictSame(await platform.status(video.slot, video.call()), { state: 'processing' })
  await platform.remove(video.slot, video.call())
  t.equal(double.content(video.draft.title), undefined, 'it was the right one')
})

scenario('status finds the video if the process died before the last response', async (t, setup) => {
  const { double, platform, publication } = setup
  const video = publication()
  await video.provision()
  let session = video.slot
  const { keep, ...call } = video.call()
  const first = async (slot: typeof session) => {
    if (slot.videoId === null) session = slot
    await keep(slot)
  }
  await platform.upload(video.slot, video.draft, contentOf(randomBytes(100)), { ...call, keep: first })
  t.equal(session.videoId, null)
  t.type(session.handle, 'string')

  for (let others = 0; others < 110; others++) await publication().publish()
  double.fail('upload', atWork)
  t.strictSame(
    await platform.status(session, video.call()),
    { state: 'processing' },
    'PeerTube is at work on it',
  )
  video.slot = session
  t.strictSame(await platform.status(session, video.call()), { state: 'processing' })
  t.type(video.slot.videoId, 'string', 'kept')
  await platform.remove(session, video.call())
  t.equal(double.leftovers(), 110, 'it is removed by its session as well, and no other')
})

scenario('the last chunk is interrupted in a session with an upper bound of the size', async (t, setup) => {
  const { double, platform, publication } = setup
  const chunkSize = double.chunkSize as number
  for (const fault of [
    { reset: { afterBytes: 0 } },
    { reset: { afterBytes: 50 } },
    { reset: { afterBytes: 0 }, late: true },
    { status: 503 },
  ]) {
    const video = publication()
    const bytes = randomBytes(2 * chunkSize + 100)
    await video.provision()
    const { stream, ...content } = contentOf(bytes, null, bytes.length + 2)
    // All chunks but the last are through when the end of the content is read.
    const faulty = async function* () {
      for await (const piece of stream) yield piece
      double.fail('upload', fault)
    }
    await video.upload({
      ...content,
      stream: Readable.from(faulty(), { objectMode: false, highWaterMark: 0 }),
    })
    t.ok(double.content(video.draft.title)?.equals(bytes), JSON.stringify(fault))
  }

  const sizes: number[] = []
  const video = publication()
  const { keep, ...call } = video.call()
  const keepSizes: typeof keep = async (slot) => {
    sizes.push(JSON.parse(slot.handle ?? '{}').size)
    await keep(slot)
  }
  await platform.upload(video.slot, video.draft, contentOf(randomBytes(200), null, 204), {
    ...call,
    keep: keepSizes,
  })
  t.strictSame(sizes, [204, 200, undefined], 'the exact size is stored before PeerTube gets it')
})

scenario('a slot whose session is gone or belongs to another account awaits an upload', async (t, setup) => {
  const { platform, publication } = setup
  for (const uploadId of ['1-gone.mp4', '2-foreign.mp4']) {
    const video = publication()
    const { title } = video.draft
    video.slot = { videoId: null, handle: JSON.stringify({ uploadId, file: 'gone.mp4', title, size: 9 }) }
    t.strictSame(await platform.status(video.slot, video.call()), { state: 'awaiting-upload' })
    await video.upload(contentOf(randomBytes(100)))
    t.strictSame(await platform.status(video.slot, video.call()), { state: 'processing' })
  }
})

scenario('an instance that is down is not mistaken for processing of the upload', async (t, setup) => {
  const { double, failure, platform, publication } = setup
  const video = await cutPublication(setup)
  const page = { status: 503, headers: { ...atWork.headers, 'content-type': 'text/html' }, body: '<html>' }
  for (const fault of [page, { ...atWork, headers: { ...atWork.headers, 'retry-after': '8' } }]) {
    double.fail('upload', fault, 2)
    t.equal((await failure(platform.status(video.slot, video.call()))).code, 'platform-unavailable')
    double.clearFaults()
  }
  t.strictSame(await platform.status(video.slot, video.call()), { state: 'awaiting-upload' })
  await t.resolves(publication().publish())
})

scenario('a restart of the instance ends the upload, and the next one starts again', async (t, setup) => {
  const { double, failure, publication } = setup
  const video = publication()
  await video.provision()
  double.fail('upload', { status: 404, body: '{}' })
  const bytes = randomBytes(200_000)
  const lost = { code: 'platform-unavailable', message: /lost/ }
  t.match(await failure(video.upload(contentOf(bytes))), lost)
  await video.upload(contentOf(bytes))
  t.ok(double.content(video.draft.title)?.equals(bytes))
})

for (const [start, status] of Object.entries(brokenFiles)) {
  scenario(
    `a file that PeerTube rejects after the last byte, with ${status}, is platform-rejected`,
    async (t, setup) => {
      const { double, failure, platform, publication } = setup
      const video = publication()
      await video.provision()
      const broken = Buffer.concat([Buffer.from(start), randomBytes(100_000)])
      t.match(await failure(video.upload(contentOf(broken))), {
        code: 'platform-rejected',
        message: 'PeerTube could not process the file. Check the file and upload another.',
      })
      t.equal(double.calls('upload'), 2, 'the last chunk is sent once')
      t.equal(double.leftovers(), 0)
      t.strictSame(await platform.status(video.slot, video.call()), { state: 'awaiting-upload' })
      const bytes = randomBytes(broken.length)
      await video.upload(contentOf(bytes))
      t.ok(double.content(video.draft.title)?.equals(bytes), 'a file of the same size is taken after it')
    },
  )
}

scenario('a deletion waits while PeerTube processes the upload', async (t, setup) => {
  const { double, platform } = setup
  const video = await cutPublication(setup)
  double.fail('upload', atWork)
  await platform.remove(video.slot, video.call())
  t.equal(double.leftovers(), 0)
})

scenario('a deletion stops waiting when the processing of the upload does not end', async (t, setup) => {
  const { double, platform } = setup
  const removed = await cutPublication(setup)
  const renewed = await cutPublication(setup)
  double.fail('upload', atWork, 3)
  await platform.remove(removed.slot, removed.call())
  t.equal(double.leftovers(), 1)
  double.fail('upload', atWork, 3)
  const bytes = randomBytes(100)
  await renewed.upload(contentOf(bytes))
  t.ok(double.content(renewed.draft.title)?.equals(bytes))
  t.equal(double.leftovers(), 1)
})

scenario(
  'concurrent uploads with the same title and size are separate',
  async (t, { double, publication }) => {
    const videos = Array.from({ length: 20 }, () => publication('The same'))
    const contents = await Promise.all(
      videos.map(async (video) => {
        const bytes = randomBytes(70_000)
        await video.provision()
        await video.upload(contentOf(bytes))
        return video.slot.videoId
      }),
    )
    t.equal(new Set(contents).size, 20)
    t.equal(double.leftovers(), 20)
  },
)

scenario(
  'a chunk that meets the lock of the previous one is sent again',
  async (t, { double, publication }) => {
    const video = publication()
    await video.provision()
    double.fail('upload', { status: 423, body: '{}' })
    await t.resolves(video.upload(contentOf(randomBytes(100))))
  },
)

/** What an instance, or a proxy in front of it, says when a session is opened or a chunk is sent. */
const refusals = [
  { status: 413, code: 'quota_reached', message: /quota of the PeerTube account/ },
  { status: 413, code: 'max_file_size_reached', message: /larger than the PeerTube instance accepts/ },
  { status: 413, code: 'something_new', message: /proxy in front of PeerTube.*PEERTUBE_CHUNK_SIZE/ },
  { status: 413, body: '<html>413 Request Entity Too Large</html>', message: /proxy in front of PeerTube/ },
  { status: 413, body: '', message: /proxy in front of PeerTube/ },
]
for (const { status, code, body, message } of refusals) {
  const fault = { status, body: body ?? JSON.stringify({ status, code }) }
  scenario(`${status} ${code ?? JSON.stringify(body)} names the limit in its error`, async (t, setup) => {
    const { double, failure, publication } = setup
    for (const operation of ['provision', 'upload'] as const) {
      const video = publication()
      await video.provision()
      double.fail(operation, fault)
      const sent = double.calls(operation)
      const uploading = failure(video.upload(contentOf(randomBytes(100))))
      t.match(await uploading, { code: 'platform-rejected', message }, operation)
      t.equal(double.calls(operation), sent + 1, 'it is not sent again')
      const bytes = randomBytes(100)
      await video.upload(contentOf(bytes))
      t.ok(double.content(video.draft.title)?.equals(bytes), 'and the slot accepts another upload')
    }
  })
}

for (const status of [403, 404]) {
  scenario(
    `a channel that the account cannot publish in (${status}) is platform-unauthorized`,
    async (t, setup) => {
      const { double, failure, publication } = setup
      const video = publication()
      await video.provision()
      double.fail('provision', { status, body: { status, code: 'not_found' } })
      t.match(await failure(video.upload(contentOf(randomBytes(100)))), {
        code: 'platform-unauthorized',
        message: /cannot publish in the channel 7/,
      })
    },
  )
}

scenario('a throttled creation of a session is retried, because nothing was created', async (t, setup) => {
  const { double, failure, publication } = setup
  const video = publication()
  await video.provision()
  const throttled = { status: 429, headers: { 'retry-after': '0' }, body: 'Too many requests' }
  double.fail('provision', throttled, 2)
  await video.upload(contentOf(randomBytes(100)))
  t.equal(double.calls('provision'), 3)
  t.equal(double.leftovers(), 1)

  const other = publication()
  await other.provision()
  double.fail('provision', { ...throttled, headers: { 'retry-after': '31' } })
  t.match(await failure(other.upload(contentOf(randomBytes(100)))), {
    code: 'platform-throttled',
    retryAfter: 31,
  })
  double.fail('provision', { status: 503, body: '' })
  t.match(await failure(other.upload(contentOf(randomBytes(100)))), { code: 'platform-unavailable' })
  t.equal(double.calls('provision'), 5, 'a longer wait is the caller’s, and after 503 something may be there')
})

scenario('after a lost response only a video with the gateway’s source file is adopted', async (t, setup) => {
  const { double, failure, platform, publication } = setup
  const stranger = publication()
  await stranger.publish()
  type Listed = { uuid: unknown; name: string }
  const other = { uuid: stranger.slot.videoId }
  const lists: [string, (ours: Listed, title: string) => Listed[], boolean][] = [
    ['another video of that title first', (ours, name) => [{ ...other, name }, ours], true],
    ['twice', (ours) => [ours, ours], true],
    ['another video of that title alone', (_ours, name) => [{ ...other, name }], false],
    ['an id that is a path', (ours) => [{ ...ours, uuid: '../users/me' }], false],
    ['an id of dots', (ours) => [{ ...ours, uuid: '..' }], false],
    ['an id of 3 MB', (ours) => [{ ...ours, uuid: 'x'.repeat(3_000_000) }], false],
    ['no id', (ours) => [{ ...ours, uuid: null }], false],
  ]
  for (const [name, list, there] of lists) {
    const video = publication()
    await video.provision()
    double.rewrite((answer) => {
      const { data } = (answer.body ?? {}) as { data?: Listed[] }
      if (!data) return answer
      const ours = data.find((one) => one.name === video.draft.title)!
      return { ...answer, body: { total: 2, data: list(ours, video.draft.title) } }
    })
    double.fail('upload', { reset: { afterBytes: 0 }, late: true })
    const bytes = randomBytes(100)
    if (there) await t.resolves(video.upload(contentOf(bytes)), name)
    else t.match((await failure(video.upload(contentOf(bytes)))).code, /^platform-/, name)
    double.rewrite()
    t.equal(video.slot.videoId !== null, there, name)
    await platform.remove(video.slot, video.call()).catch(() => {})
    t.equal(double.content(video.draft.title), undefined, `${name}: ours is removed`)
    await t.resolves(platform.status(stranger.slot, stranger.call()), `${name}: the other one is not`)
  }
})
