import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Decoder, Demuxer } from 'node-av/api'
import t, { type Test } from 'tap'
import { makeMp4, removeMade } from '../support/media.ts'
import { type Json, startClient } from './client.ts'

const directory = await mkdtemp(join(tmpdir(), 'sandbox-test-'))
t.teardown(async () => {
  await removeMade()
  await rm(directory, { recursive: true, force: true })
})

type Options = Omit<Parameters<typeof makeMp4>[0], 'path'>
const small = { width: 320, height: 180, seconds: 2, layout: 'faststart' } as const

let made = 0
const mp4 = async (options: Partial<Options> = {}) =>
  readFile(await makeMp4({ ...small, ...options, path: join(directory, `${made++}.mp4`) }))

/** Sizes and length of what a served file or playlist holds, as a player would find them. */
async function inspect(path: string) {
  await using demuxer = await Demuxer.open(path)
  const stream = demuxer.video()!
  using decoder = await Decoder.create(stream)
  let frames = 0
  for await (const packet of demuxer.packets(stream.index)) {
    for (const frame of await decoder.decodeAll(packet)) {
      frames += 1
      frame.free()
    }
    packet?.free()
  }
  const { width, height } = stream.codecpar
  return { width, height, frames, tracks: demuxer.streams.length, duration: demuxer.duration }
}

/** Downloads the playlist and all it names, and returns the path of the copy. */
async function download(t: Test, url: string): Promise<string> {
  const folder = t.testdir({})
  const playlist = await (await fetch(url)).text()
  t.match(playlist, /^#EXTM3U\n/)
  t.match(playlist, /#EXT-X-ENDLIST/)
  const names = playlist
    .split('\n')
    .map((line) => /URI="([^"]+)"/.exec(line)?.[1] ?? line)
    .filter((line) => line && !line.startsWith('#'))
  for (const name of names) {
    const file = await fetch(new URL(name, url))
    t.equal(file.headers.get('content-type'), 'video/mp4')
    await writeFile(join(folder, name), Buffer.from(await file.arrayBuffer()))
  }
  const path = join(folder, 'playlist.m3u8')
  await writeFile(path, playlist)
  return path
}

const near = (t: Test, actual: number, expected: number, tolerance: number, what: string) =>
  t.ok(Math.abs(actual - expected) <= tolerance, `${what}: ${actual} is about ${expected}`)

const turned = { w: 180, h: 320 }
const shown: [string, Partial<Options>, { w: number; h: number }][] = [
  ['faststart', {}, { w: 320, h: 180 }],
  ['moov at the end', { layout: 'moov-at-end' }, { w: 320, h: 180 }],
  ['fragmented', { layout: 'fragmented' }, { w: 320, h: 180 }],
  ['portrait', { width: 180, height: 320 }, turned],
  ['portrait by rotation', { rotate: 90 }, turned],
  ['silent', { audio: false }, { w: 320, h: 180 }],
  ['large', { width: 1280, height: 720, seconds: 1 }, { w: 1280, h: 720 }],
  ['anamorphic', { sampleAspect: '4/3', width: 240 }, { w: 320, h: 180 }],
]

for (const [title, options, frame] of shown) {
  t.test(`a ${title} file goes live`, async (t) => {
    const { call, create, put, until } = await startClient(t)
    const clip = await create({ summary: 'All of it', external_ref: 'ours' })
    t.match(clip, { state: 'empty', progress: 0, failure: null, received_bytes: 0, external_ref: 'ours' })
    t.equal((await call('GET', `/clips/${clip.clip_id}/media`)).status, 409)

    const file = await mp4(options)
    t.equal((await put(clip.ingest_url, file)).status, 204)
    const live = await until(clip.clip_id, 'live')
    t.match(live, { progress: 100, failure: null, received_bytes: file.length, summary: 'All of it' })

    const { body: media } = await call('GET', `/clips/${clip.clip_id}/media`)
    t.same(media.frame, frame)
    const seconds = options.seconds ?? small.seconds
    near(t, media.length_ms, seconds * 1000, 100, 'length')
    const original = Buffer.from(await (await fetch(media.download_url)).arrayBuffer())
    t.ok(original.equals(file), 'the download is what was uploaded')

    const stream = await inspect(await download(t, media.stream_url))
    t.match(stream, { frames: seconds * 25, tracks: options.audio === false ? 1 : 2 })
    near(t, stream.duration, seconds, 0.15, 'HLS length')

    const { body: poster } = await call('GET', `/clips/${clip.clip_id}/poster`)
    t.match(poster, { mime: 'image/jpeg', w: Math.min(640, frame.w) })
    near(t, poster.w / poster.h, frame.w / frame.h, 0.01, 'aspect')
    const image = join(t.testdir({}), 'poster.jpg')
    const answer = await fetch(poster.href)
    t.equal(answer.headers.get('content-type'), 'image/jpeg')
    await writeFile(image, Buffer.from(await answer.arrayBuffer()))
    t.match(await inspect(image), { width: poster.w, height: poster.h, frames: 1 })
  })
}

const broken: [string, () => Promise<Buffer>, string][] = [
  ['sound only', () => mp4({ video: false }), 'no_video_track'],
  ['garbage', async () => Buffer.alloc(5000, 'no video at all '), 'not_a_video'],
  ['a playlist', async () => Buffer.from('#EXTM3U\n#EXTINF:1,\n/etc/hostname\n'), 'not_a_video'],
  [
    'half a file without its index',
    async () => (await mp4({ layout: 'moov-at-end' })).subarray(0, 9000),
    'not_a_video',
  ],
]

t.test('a file that is not a video fails', async (t) => {
  const { call, create, put, until } = await startClient(t)
  for (const [title, file, kind] of broken) {
    const { clip_id, ingest_url } = await create()
    t.equal((await put(ingest_url, await file())).status, 204, title)
    t.match(await until(clip_id, 'failed'), { failure: { kind, text: String } }, title)
    t.match(await call('GET', `/clips/${clip_id}/poster`), {
      status: 409,
      body: { fault: { kind: 'not_live' } },
    })
  }
})

t.test('a deleted clip is gone with its files', async (t) => {
  const { call, create, put, until, sandbox } = await startClient(t)
  const { clip_id, ingest_url } = await create()
  await put(ingest_url, await mp4())
  await until(clip_id, 'live')
  const { body } = await call('GET', `/clips/${clip_id}/poster`)
  t.equal((await call('DELETE', `/clips/${clip_id}`)).status, 204)
  t.equal((await call('DELETE', `/clips/${clip_id}`)).status, 404)
  t.match(await call('GET', `/clips/${clip_id}`), { status: 404, body: { fault: { kind: 'unknown_clip' } } })
  t.equal((await fetch(body.href)).status, 404)
  t.match(sandbox.stats().clips, { live: 0 })
})

t.test('a clip can be deleted while it is processed', async (t) => {
  const { call, create, put, sandbox } = await startClient(t, { knobs: { processing_delay_ms: 5000 } })
  const { clip_id, ingest_url } = await create()
  await put(ingest_url, await mp4())
  t.equal((await call('GET', `/clips/${clip_id}`)).body.state, 'queued')
  t.equal((await call('DELETE', `/clips/${clip_id}`)).status, 204)
  t.match(sandbox.stats().clips, { queued: 0 })
})

t.test('the shipped sample goes live', async (t) => {
  const { call, create, put, until } = await startClient(t)
  const path = new URL('../../sandbox/sample.mp4', import.meta.url)
  t.ok((await stat(path)).size < 400_000)
  const { clip_id, ingest_url } = await create()
  await put(ingest_url, await readFile(path))
  await until(clip_id, 'live')
  const { body }: Json = await call('GET', `/clips/${clip_id}/media`)
  t.match(body, { frame: { w: 640, h: 360 }, length_ms: 5000 })
})
