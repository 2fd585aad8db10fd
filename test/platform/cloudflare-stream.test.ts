import { randomBytes } from 'node:crypto'
import t, { type Test } from 'tap'
import { cloudflareStream } from '../../src/platform/cloudflare-stream/cloudflare-stream.ts'
import { defaultTools, type PlatformTools } from '../../src/platform/tools.ts'
import { contentOf, scenarios } from './conformance/setup.ts'
import { startDouble } from './doubles/cloudflare-stream.ts'

const scenario = scenarios(t, startDouble)

scenario('a 200 with `success: false` is an error', async (t, { double, failure, platform, publication }) => {
  const video = publication()
  await video.publish()
  const body = { success: false, errors: [{ code: 10005, message: 'token-of-the-suite' }], result: null }
  double.fail('status', { status: 200, body })
  const error = await failure(platform.status(video.slot, video.call()))
  t.match(error, { code: 'platform-rejected', message: /10005/ })
  double.fail('remove', { status: 200, body: { success: false, errors: null, result: null } })
  t.equal((await failure(platform.remove(video.slot, video.call()))).code, 'platform-rejected')
  double.fail('remove', { status: 200, body: { success: true, errors: [], result: null } })
  await t.resolves(platform.remove(video.slot, video.call()))
})

scenario(
  'a video whose creation response was lost is found by the gateway’s id',
  async (t, { double, failure, platform, publication }) => {
    const video = publication()
    await video.provision()
    for (const content of [contentOf(randomBytes(10)), contentOf(randomBytes(10), null, 12)]) {
      double.fail('provision', { reset: { afterBytes: 0 }, late: true })
      await failure(video.upload(content))
      t.strictSame(video.slot, { videoId: null, handle: null })
      const [found] = (await platform.find?.(video.draft, video.call())) ?? []
      t.equal(double.leftovers(), 1)
      await platform.remove(found!, video.call())
      t.equal(double.leftovers(), 0)
    }
  },
)

scenario(
  'another upload replaces the video of the previous one',
  async (t, { double, failure, publication }) => {
    const video = publication()
    await video.provision()
    double.fail('upload', { status: 400 })
    await failure(video.upload(contentOf(randomBytes(1000))))
    const first = video.slot.videoId
    await video.upload(contentOf(randomBytes(1000)))
    t.type(first, 'string')
    t.not(video.slot.videoId, first)
    t.equal(double.leftovers(), 1)
  },
)

scenario(
  'an upload that expired during the transfer can be sent again',
  async (t, { double, failure, publication }) => {
    for (const status of [404, 410])
      for (const size of [1000, null]) {
        const video = publication()
        await video.provision()
        double.fail('upload', { status })
        const error = await failure(video.upload(contentOf(randomBytes(1000), size, 1002)))
        t.match(error, { code: 'platform-unavailable', message: /Upload again from the first byte/ })
        const bytes = randomBytes(1000)
        await video.upload(contentOf(bytes, size, 1002))
        t.ok(double.content(video.draft.title)?.equals(bytes))
      }
  },
)

scenario('a form has at most 200 MB, including its own lines', async (t, { platform }) => {
  t.equal(platform.acceptsMaxSize?.(199_000_000), true)
  t.equal(platform.acceptsMaxSize?.(200_000_000), false)
})

t.test('the thumbnail keeps the shape of the video and is not enlarged', async (t) => {
  const shapes = [
    [3840, 2160, 640, 360],
    [1080, 1920, 360, 640],
    [720, 720, 640, 640],
    [320, 180, 320, 180],
    [4000, 3, 640, 1],
  ] as const
  for (const [width, height, ...size] of shapes) {
    const result = {
      thumbnail: 'https://customer-x.cloudflarestream.com/u/thumbnails/thumbnail.jpg',
      input: { width, height },
    }
    const thumbnail = await answered(t, result)
    t.strictSame([thumbnail.width, thumbnail.height], size)
    t.match(thumbnail.url, new RegExp(`thumbnail.jpg\\?width=${size[0]}&height=${size[1]}$`))
  }
})

t.test('a chunk size that the vendor would reject prevents startup', async (t) => {
  const variables = {
    CLOUDFLARE_STREAM_BASE_URL: 'https://api.cloudflare.com/client/v4',
    CLOUDFLARE_STREAM_ACCOUNT_ID: 'account',
    CLOUDFLARE_STREAM_API_TOKEN: 'token',
    CLOUDFLARE_STREAM_MAX_DURATION: 60,
  }
  const MiB = 2 ** 20
  for (const size of [4 * MiB, 201 * MiB, 5_500_000])
    t.throws(() => cloudflareStream.create({ ...variables, CLOUDFLARE_STREAM_CHUNK_SIZE: size }, tools), {
      message: /^CLOUDFLARE_STREAM_CHUNK_SIZE: /,
    })
  for (const size of [5 * MiB, 200 * MiB, 16 * MiB]) {
    const platform = cloudflareStream.create({ ...variables, CLOUDFLARE_STREAM_CHUNK_SIZE: size }, tools)
    await platform.close()
  }
})

const silent = () => {}
const tools: PlatformTools = {
  ...defaultTools,
  log: { info: silent, warn: silent, error: silent },
  observer: { call() {}, circuit() {}, tokenRequest() {} },
}

/** The thumbnail that the adapter makes of a result. */
async function answered(t: Test, result: unknown) {
  const double = await startDouble()
  const { CLOUDFLARE_STREAM_BASE_URL, CLOUDFLARE_STREAM_ACCOUNT_ID, CLOUDFLARE_STREAM_API_TOKEN } =
    double.variables
  const platform = cloudflareStream.create(
    {
      CLOUDFLARE_STREAM_BASE_URL: CLOUDFLARE_STREAM_BASE_URL!,
      CLOUDFLARE_STREAM_ACCOUNT_ID: CLOUDFLARE_STREAM_ACCOUNT_ID!,
      CLOUDFLARE_STREAM_API_TOKEN: CLOUDFLARE_STREAM_API_TOKEN!,
      CLOUDFLARE_STREAM_CHUNK_SIZE: 65_536,
      CLOUDFLARE_STREAM_MAX_DURATION: 60,
    },
    tools,
  )
  t.teardown(() => Promise.all([platform.close(), double.close()]))
  double.fail('thumbnail', { status: 200, body: { success: true, errors: [], result } })
  return platform.thumbnail(
    { videoId: 'u', handle: null },
    { signal: new AbortController().signal, async creating() {}, async keep() {} },
  )
}
