import { randomBytes } from 'node:crypto'
import t from 'tap'
import { contentOf, scenarios, stuckContent } from './conformance/setup.ts'
import { startDouble } from './doubles/mux.ts'

/** What Mux has beyond the conformance suite: two ids, and uploads that expire or are used up. */
const scenario = scenarios(t, startDouble)

scenario('an upload that expired, was canceled or is unknown is created again', async (t, setup) => {
  const { double, platform, publication } = setup
  for (const status of ['timed_out', 'cancelled', 'unknown']) {
    const video = publication()
    await video.provision()
    const { handle } = video.slot
    if (status === 'unknown') double.fail('status', { status: 404, body: '{}' })
    else double.setStatus(video.draft.title, `upload ${status}`)
    if (status !== 'unknown')
      t.strictSame(await platform.status(video.slot, video.call()), { state: 'awaiting-upload' })
    const bytes = randomBytes(100)
    await video.upload(contentOf(bytes))
    t.not(video.slot.handle, handle)
    t.ok(double.content(video.draft.title)?.equals(bytes))
    await platform.remove(video.slot, video.call())
    t.equal(double.leftovers(), 0, status)
  }
})

scenario('an interrupted upload is not used again', async (t, { double, publication }) => {
  const video = publication()
  await video.provision()
  const content = stuckContent(100_000, 50_000)
  setTimeout(() => content.stream.destroy(new Error('cut')), 100)
  await t.rejects(video.upload(content))
  await video.upload(contentOf(randomBytes(100)))
  t.equal(double.calls('provision'), 2)
  t.equal(double.leftovers(), 1, 'the first one is cancelled')
})

scenario('the asset’s id is kept as soon as it is known', async (t, { double, platform, publication }) => {
  const video = publication()
  await video.provision()
  t.equal(video.slot.videoId, null)
  await video.upload(contentOf(randomBytes(100)))
  t.equal(video.slot.videoId, null)
  double.finish(video.draft.title)
  double.fail('info', { status: 503 }, 2)
  await t.rejects(platform.status(video.slot, video.call()), { code: 'platform-unavailable' })
  t.type(video.slot.videoId, 'string', 'even when the asset cannot be asked for')
})

scenario('an asset whose id is not stored yet is deleted too', async (t, setup) => {
  const { double, platform, publication } = setup
  const video = publication()
  await video.publish()
  t.equal(video.slot.videoId, null)
  await platform.remove(video.slot, video.call())
  t.equal(double.leftovers(), 0)
})

scenario('an upload that names the asset of another upload is a protocol error', async (t, setup) => {
  const { double, failure, platform, publication } = setup
  const [stranger, video] = [publication(), publication()]
  for (const one of [stranger, video]) await one.publish()
  await platform.status(stranger.slot, stranger.call())
  const uploaded = video.slot
  double.rewrite((answer) => {
    const { data } = (answer.body ?? {}) as { data?: { id?: string; asset_id?: string } }
    return data?.asset_id
      ? { ...answer, body: { data: { ...data, asset_id: stranger.slot.videoId } } }
      : answer
  })
  t.equal((await failure(platform.status(uploaded, video.call()))).code, 'platform-protocol-error')
  for (const slot of [uploaded, video.slot])
    t.equal((await failure(platform.remove(slot, video.call()))).code, 'platform-protocol-error')
  double.rewrite()
  t.match(await platform.status(stranger.slot, stranger.call()), { state: 'ready' })
})

scenario('a file with audio only fails', async (t, { double, platform, publication }) => {
  const video = publication()
  await video.publish()
  await platform.status(video.slot, video.call())
  const id = video.slot.videoId
  const asset = { id, status: 'ready', duration: 4, tracks: [{ type: 'audio' }], playback_ids: [] }
  double.fail('status', { status: 200, body: { data: asset } })
  t.match(await platform.status(video.slot, video.call()), { state: 'failed', message: /no video track/ })
})

scenario(
  'metadata that is not available yet is a protocol error, in every form',
  async (t, { double, failure, platform, publication }) => {
    const video = publication()
    await video.publish()
    await platform.status(video.slot, video.call())
    const whole = {
      id: video.slot.videoId,
      status: 'ready',
      duration: 4,
      playback_ids: [{ id: 'p', policy: 'public' }],
      tracks: [{ type: 'video', max_width: 405, max_height: 2_160 }],
    }
    const gaps = [
      { duration: -1 },
      { duration: null },
      { playback_ids: [] },
      { playback_ids: [{ id: 'p', policy: 'signed' }] },
      { tracks: [] },
      { tracks: [{ type: 'video', max_width: -1, max_height: -1 }] },
      { tracks: [{ type: 'video', max_width: null }] },
    ]
    for (const gap of gaps) {
      double.fail('info', { status: 200, body: { data: { ...whole, ...gap } } })
      const { code } = await failure(platform.info(video.slot, video.call()))
      t.equal(code, 'platform-protocol-error', JSON.stringify(gap))
    }
    double.fail('thumbnail', { status: 200, body: { data: whole } })
    t.match(await platform.thumbnail(video.slot, video.call()), { width: 240, height: 1_280 }, 'upright')
  },
)
