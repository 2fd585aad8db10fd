import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { largestFile } from '../../../src/platform/peertube/files.ts'
import { isPlaylistComplete, namesEvery } from '../../../src/platform/peertube/renditions.ts'
import { contentOf, scenarios } from '../conformance/setup.ts'
import { startDouble } from '../doubles/peertube.ts'

/** What PeerTube has beyond the conformance suite: its login, its limits and its playlists. */
const scenario = scenarios(t, startDouble)
const withoutChannel = scenarios(t, async () => {
  const double = await startDouble()
  const { PEERTUBE_CHANNEL_ID: _, ...variables } = double.variables
  return { ...double, variables: variables as Record<string, string> }
})

scenario('a token is renewed; only a rejected renewal leads to a new login', async (t, setup) => {
  const { double, failure, platform, publication } = setup
  const video = publication()
  await video.publish()
  const read = () => platform.status(video.slot, video.call())
  const asked = double.calls('token')
  double.tokens!.revoke()
  await read()
  t.equal(double.calls('token'), asked + 1)

  double.tokens!.revoke()
  double.fail('token', { status: 400, body: { status: 400, code: 'invalid_grant', error: 'invalid_grant' } })
  await read()
  t.equal(double.calls('token'), asked + 3, 'the renewal and the login')

  double.tokens!.revoke()
  double.fail('token', { status: 429, headers: { 'retry-after': '9' } })
  t.match(await failure(read()), { code: 'platform-throttled', retryAfter: 9 })
  t.equal(double.calls('token'), asked + 4, 'no login after anything else')
})

scenario('a rejected login is platform-unauthorized', async (t, { double, failure, publication }) => {
  double.fail('token', {
    status: 400,
    headers: { 'content-type': 'application/problem+json' },
    body: JSON.stringify({
      status: 400,
      code: 'invalid_grant',
      error: 'Invalid grant: user credentials are invalid',
    }),
  })
  const error = await failure(publication().publish())
  t.match(error, { code: 'platform-unauthorized', message: "peertube rejected the gateway's credentials" })
  t.equal(double.calls('token'), 1)
})

withoutChannel('the account’s first channel is looked up once', async (t, { double, publication }) => {
  await publication().publish()
  const lookUps = double.calls('find')
  await publication().publish()
  t.equal(double.calls('find'), lookUps)
})

scenario('titles and descriptions that PeerTube rejects are rejected immediately', async (t, setup) => {
  const { double, failure, publication } = setup
  for (const title of ['', 'ab', '  ab  ', 'x'.repeat(121)]) {
    const error = await failure(publication(title).provision())
    t.match(error, { code: 'platform-rejected', message: /title of 3 to 120 characters/ })
  }
  for (const title of ['abc', 'x'.repeat(120), '🎬'.repeat(120)])
    await t.resolves(publication(title).provision())
  const video = publication()
  video.draft.description = 'ab'
  t.match(await failure(video.provision()), { code: 'platform-rejected', message: /description/ })
  t.equal(double.calls('provision') + double.calls('token'), 0)
})

scenario('a chunk with an old token is sent again after another call renewed it', async (t, setup) => {
  const { double, platform, publication } = setup
  const [video, other] = [publication(), publication()]
  await other.publish()
  await video.provision()
  const release = double.holdUploads()
  const bytes = randomBytes(100)
  const sent = double.calls('upload')
  const uploading = video.upload(contentOf(bytes))
  while (double.calls('upload') === sent) await delay(5)
  double.fail('status', { status: 401, body: '{}' })
  await platform.status(other.slot, other.call())
  const asked = double.calls('token')
  release()
  await uploading
  t.ok(double.content(video.draft.title)?.equals(bytes))
  t.equal(double.calls('token'), asked, 'with the token that is there by now')
})

scenario('a rate limit of the instance is passed on with its delay', async (t, setup) => {
  const { double, failure, platform, publication } = setup
  const html = { 'content-type': 'text/html; charset=utf-8' }
  const limit = (seconds: string) => ({
    status: 429,
    headers: { ...html, 'retry-after': seconds },
    body: 'Too many',
  })
  const video = publication()
  await video.publish()
  const read = () => platform.status(video.slot, video.call())
  double.fail('status', limit('10'))
  t.match(await failure(read()), { code: 'platform-throttled', retryAfter: 10 })
  double.tokens!.revoke()
  double.fail('token', limit('300'))
  for (let i = 0; i < 2; i++) t.match(await failure(read()), { code: 'platform-throttled', retryAfter: 60 })
})

t.test('a playlist is complete with the best resolution, the enabled ones below it, and audio', async (t) => {
  const files = (...ids: number[]) => ids.map((id) => ({ resolution: { id } }))
  const heard = (hasAudio: boolean, ...ids: number[]) => files(...ids).map((file) => ({ ...file, hasAudio }))
  const enabled = [0, 240, 360, 1080]
  t.equal(isPlaylistComplete(files(720, 360, 240), [], enabled), true)
  t.equal(isPlaylistComplete(files(720, 240), [], enabled), false)
  t.equal(isPlaylistComplete(files(360, 240), [], enabled), true, 'of an enabled resolution')
  t.equal(
    isPlaylistComplete(files(360, 240), files(720), enabled),
    false,
    'the uploaded file is no rendition yet',
  )
  t.equal(
    isPlaylistComplete(files(360, 240), files(360), enabled),
    true,
    'as where there are mp4 files as well',
  )
  t.equal(isPlaylistComplete(files(144), [], enabled), true, 'smaller than all of them')
  t.equal(isPlaylistComplete(heard(true, 240), [], enabled), false)
  t.equal(isPlaylistComplete(heard(true, 240, 0), [], enabled), true)
  t.equal(isPlaylistComplete(heard(false, 240), [], enabled), true, 'a silent video')
  t.equal(isPlaylistComplete(heard(false, 240), heard(true, 240), [240]), false, 'sound on its own, to come')
})

t.test('a master playlist is checked for every rendition, for audio as its version writes it', async (t) => {
  const file = (id: number, hasAudio?: boolean) => ({
    resolution: { id },
    ...(hasAudio !== undefined && { hasAudio }),
  })
  const stream = (resolution: string) => `#EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=${resolution}\nx.m3u8`
  const audio = '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="Audio",URI="0.m3u8"'
  const captions = '#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="subtitles",URI="en.m3u8"'
  const [two, split] = [
    [file(720), file(240)],
    [file(720, false), file(240, false), file(0, true)],
  ]
  const cases: [string, ReturnType<typeof file>[], string[], boolean][] = [
    ['nothing', two, [], false],
    ['one of two', two, [stream('1280x720')], false],
    ['both', two, [stream('1280x720'), stream('426x240')], true],
    ['split, audio to come', split, [stream('1280x720'), stream('426x240')], false],
    ['split, subtitles are no audio', split, [captions, stream('1280x720'), stream('426x240')], false],
    ['split, audio there', split, [audio, stream('1280x720'), stream('426x240')], true],
    ['split, a rendition to come', split, [audio, stream('426x240')], false],
    ['not split: audio is left out', [file(720, true), file(0, true)], [stream('1280x720')], true],
    ['before 7.0: audio is a stream', [file(720), file(0)], [stream('0x0')], false],
    ['before 7.0, both', [file(720), file(0)], [stream('0x0'), stream('1280x720')], true],
    ['audio alone', [file(0, true)], ['#EXT-X-STREAM-INF:BANDWIDTH=1\n0.m3u8'], true],
  ]
  for (const [name, renditions, lines, expected] of cases)
    t.equal(namesEvery(renditions, ['#EXTM3U', ...lines, ''].join('\n')), expected, name)
})

t.test('the size in pixels is computed if a file has no width and height', async (t) => {
  const file = (id: number, size: object = {}) => ({ resolution: { id, label: `${id}p` }, ...size })
  t.match(
    largestFile([file(240, { width: 426, height: 240 }), file(720, { width: 1280, height: 720 })], 1.7778),
    {
      width: 1280,
      height: 720,
    },
  )
  t.match(largestFile([file(0, { width: 0, height: 0 }), file(480)], undefined), { width: 854, height: 480 })
  t.match(
    largestFile([file(480)], 0.5625),
    { width: 480, height: 854 },
    'portrait: the id is the shorter side',
  )
  t.match(largestFile([file(480, { width: null, height: null })], 4 / 3), { width: 640, height: 480 })
  t.equal(largestFile([file(0)], 1), undefined, 'sound only')
})
