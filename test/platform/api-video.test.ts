import { randomBytes } from 'node:crypto'
import t from 'tap'
import { apiVideo } from '../../src/platform/api-video/api-video.ts'
import type { PlatformTools } from '../../src/platform/tools.ts'
import { contentOf, scenarios } from './conformance/setup.ts'
import { startDouble } from './doubles/api-video.ts'

/** What api.video has beyond the conformance suite: its token exchange, and slots that take one upload only. */
const scenario = scenarios(t, startDouble)

scenario('a token is renewed, and requested again when the renewal is rejected', async (t, setup) => {
  const { double, platform, publication } = setup
  const video = publication()
  await video.publish()
  const asked = double.calls('token')
  double.tokens!.revoke()
  double.fail('token', { status: 400, body: { title: 'The refresh token is invalid.' } })
  await platform.status(video.slot, video.call())
  t.equal(double.calls('token'), asked + 2)
})

scenario('a wrong API key is platform-unauthorized', async (t, { double, failure, publication }) => {
  double.fail('token', { status: 400, body: { title: 'The user credentials were incorrect.' } })
  t.equal((await failure(publication().provision())).code, 'platform-unauthorized')
})

scenario('the rest of an interrupted single request is not mixed with the next upload', async (t, setup) => {
  const { double, failure, publication } = setup
  const video = publication()
  await video.provision()
  const { videoId } = video.slot
  double.fail('upload', { reset: { afterBytes: 10_000 } })
  const content = contentOf(randomBytes(60_000))
  t.equal((await failure(video.upload(content))).code, 'platform-unavailable')
  t.ok(content.stream.destroyed)

  const bytes = randomBytes(50_000)
  await video.upload(contentOf(bytes))
  t.not(video.slot.videoId, videoId)
  t.equal(double.leftovers(), 1, 'the first slot is removed')
  t.ok(double.content(video.draft.title)?.equals(bytes))
})

scenario(
  'an upload survives the loss of the response to the last part',
  async (t, { double, publication }) => {
    const video = publication()
    await video.provision()
    double.fail('upload', { reset: { afterBytes: 0 }, late: true })
    const bytes = randomBytes(100)
    await video.upload(contentOf(bytes, null))
    t.ok(double.content(video.draft.title)?.equals(bytes))
    t.equal(double.calls('upload'), 1)
  },
)

scenario(
  'a thumbnail on a foreign host is not requested',
  async (t, { double, failure, platform, publication }) => {
    const video = publication()
    await video.publish()
    for (const thumbnail of [
      'http://169.254.169.254/x.jpg',
      'https://api.video.evil.example/x.jpg',
      'file:///x.jpg',
    ]) {
      double.fail('thumbnail', { status: 200, body: { assets: { thumbnail } } })
      t.equal((await failure(platform.thumbnail(video.slot, video.call()))).code, 'platform-protocol-error')
    }
  },
)

scenario('a missing or invalid image does not mean a missing video', async (t, setup) => {
  const { double, failure, platform, publication } = setup
  const video = publication()
  await video.publish()
  const assets = { thumbnail: `${double.variables.API_VIDEO_BASE_URL}/vod/vi00/thumbnail.jpg` }
  for (const answer of [
    { status: 404, body: '' },
    { status: 200, body: '<html>' },
    { status: 302, body: '', headers: { location: 'http://127.0.0.1:1/' } },
  ]) {
    double.fail('thumbnail', { status: 200, body: { assets } })
    double.fail('thumbnail', answer)
    t.equal((await failure(platform.thumbnail(video.slot, video.call()))).code, 'platform-protocol-error')
  }
})

t.test('the vendor’s limits apply to the vendor’s own hosts', async (t) => {
  const variables = {
    API_VIDEO_BASE_URL: 'https://sandbox.api.video',
    API_VIDEO_API_KEY: 'key',
    API_VIDEO_PART_SIZE: 5 * 2 ** 20 - 1,
    API_VIDEO_SINGLE_MAX: 200 * 2 ** 20,
  }
  const create = (changes: object) => () => apiVideo.create({ ...variables, ...changes }, {} as PlatformTools)
  t.throws(create({}), /^API_VIDEO_PART_SIZE: /)
  t.throws(
    create({ API_VIDEO_PART_SIZE: 5 * 2 ** 20, API_VIDEO_SINGLE_MAX: 2 ** 30 }),
    /API_VIDEO_SINGLE_MAX: /,
  )
})
