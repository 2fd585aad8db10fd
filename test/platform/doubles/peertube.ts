import { randomUUID } from 'node:crypto'
import { peertube } from '../../../src/platform/peertube/peertube.ts'
import { jpeg } from '../../support/image.ts'
import { createKit, type Exchange, type PlatformDouble } from '../double.ts'
import { publishedDocument } from '../published.ts'
import { account, client, createTokens } from './peertube-tokens.ts'
import { createUploads, problem } from './peertube-uploads.ts'

interface Video {
  uuid: string
  name: string
  file: string
  content: Buffer
  state: number
  described: boolean
  publishedAt: number
  /** Resolutions that are made, and how many of them are in the master playlist already. */
  renditions: number[]
  listed: number
  /** Part of the names of playlist and image, another one when they are replaced. */
  names: string
  /** Audio is a rendition of its own (resolution 0), and the others have none: `hls.splitAudioAndVideo` of 7.0. */
  split?: boolean
  /** An instance without transcoding: the uploaded file and no playlist. */
  plain?: boolean
}

const channelId = 7
const enabledResolutions = [240, 480, 1080]
const whole = { renditions: [720, 480, 240], listed: 3 }
const withAudio = [720, 480, 240, 0]
/** How a published video stands before its playlist is whole, or when it never gets so. */
const unfinished: Record<string, Partial<Video>> = {
  '1, with the best rendition': { renditions: [720], listed: 1 },
  '1, with a rendition that the playlist does not name yet': { listed: 2 },
  '1, with the best rendition, published long ago': { renditions: [720], listed: 1, publishedAt: 0 },
  '1, with audio apart that the playlist does not name yet': {
    renditions: withAudio,
    listed: 3,
    split: true,
  },
  '1, with audio apart': { renditions: withAudio, listed: 4, split: true },
  '1, with audio once more in a rendition of its own': { renditions: withAudio, listed: 4 },
  '1, without a picture': { renditions: [0], listed: 1, plain: true },
  '1, without a picture, in a playlist': { renditions: [0], listed: 1 },
}

const labels: Record<number, string> = {
  1: 'Published',
  2: 'To transcode',
  3: 'To import',
  4: 'Waiting for livestream',
  5: 'Livestream ended',
  6: 'To move to an external storage',
  7: 'Transcoding failed',
  8: 'Move to an external storage failed',
  9: 'To edit',
  10: 'To move to the file system',
  11: 'Move to the file system failed',
  12: 'Import failed',
}

/** Known of its document of 6.3: where that is wrong or silent. */
const published = publishedDocument('peertube', {
  'GET /lazy-static/': 'images are no part of the API',
  'GET /static/': 'nor are playlists',
  'POST /api/v1/videos/upload-resumable /lastModified': 'read by node-uploadx, not by PeerTube itself',
  'DELETE /api/v1/videos/upload-resumable lacks header Content-Length':
    'not sent without a body, not missed either',
  'PUT /api/v1/videos/upload-resumable does not answer 403': 'it does, for a session of another account',
  'PUT /api/v1/videos/upload-resumable does not answer 423': 'it does, while a chunk arrives',
  'PUT /api/v1/videos/upload-resumable does not answer 500': 'it does, for a file that ffmpeg cannot read',
  'GET /api/v1/users/me 200  must be array': 'one user is answered',
  'GET /api/v1/videos/{id} does not answer 404': 'it does',
  'DELETE /api/v1/videos/{id} does not answer 404': 'it does',
  'GET /api/v1/videos/{id} 200 /state/id': 'ends at 9, PeerTube at 12; and the suite has a new one',
  'GET /api/v1/videos/{id} 200 /previewPath must be string': 'null until there is one',
})

/** A double of PeerTube 6.3, made after its published OpenAPI document, its source and a real instance. */
export async function startDouble(): Promise<PlatformDouble> {
  const kit = createKit(published)
  const videos = new Map<string, Video>()
  const wrong = (text: string) => void kit.violations.push(text)
  const tokens = createTokens(wrong)
  const byTitle = (title: string) => [...videos.values()].find(({ name }) => name === title)

  const uploads = createUploads({
    wrong,
    channelId,
    finished({ name, filename }, content) {
      const uuid = randomUUID()
      const made = { state: 2, described: true, publishedAt: Date.now(), names: '', ...whole }
      videos.set(uuid, { uuid, name: name.trim(), file: filename, content, ...made })
      return { id: videos.size, uuid, shortUUID: uuid.slice(0, 22) }
    },
  })

  const origin = await kit.listen({
    operations(method, { pathname }) {
      const call = `${method} ${pathname.replace('/api/v1', '')}`
      if (call === 'POST /users/token') return ['token']
      if (call === 'POST /videos/upload-resumable') return ['provision']
      if (call === 'PUT /videos/upload-resumable') return ['upload']
      if (call === 'DELETE /videos/upload-resumable') return ['remove']
      if (/^GET \/videos\/[\w-]+$/.test(call)) return ['status', 'info', 'thumbnail']
      if (/^DELETE \/videos\/[\w-]+$/.test(call)) return ['remove']
      if (call === 'GET /config' || /^GET \/static\/.*\/(v2-)?\d-master.m3u8$/.test(call)) return ['status']
      if (/^GET \/lazy-static\/previews\/[\w-]+.jpg$/.test(call)) return ['thumbnail']
      // What is looked up on the way to something else.
      const lookUp = /^GET \/(oauth-clients\/local|users\/me|users\/me\/videos|videos\/[\w-]+\/source)$/
      return lookUp.test(call) ? ['find'] : []
    },

    async handle(untold) {
      // Told with any answer, once the limit is reached.
      const answer: Exchange['answer'] = (status, body, headers) =>
        untold.answer(status, body, { 'retry-after': '8', ...headers })
      const exchange = { ...untold, answer }
      const { method, url, headers } = exchange
      const path = url.pathname.replace('/api/v1', '')
      if (path === '/oauth-clients/local')
        return exchange.answer(200, { client_id: client.id, client_secret: client.secret })
      if (path === '/users/token') return tokens.give(exchange)
      if (path.startsWith('/lazy-static/')) {
        if (headers.authorization) wrong('the image is asked for with our token')
        if (![...videos.values()].some((video) => preview(video) === path))
          return exchange.answer(404, problem(404, 'not_found'))
        return exchange.answer(200, jpeg(850, 480), { 'content-type': 'image/jpeg' })
      }
      if (path === '/config') return exchange.answer(200, { transcoding: { enabledResolutions } })
      if (path.startsWith('/static/')) return answerPlaylist(exchange)
      if (!tokens.valid(headers.authorization)) return exchange.answer(401, problem(401, 'invalid_token'))
      if (path === '/users/me') return exchange.answer(200, { id: 1, videoChannels: [{ id: channelId }] })
      if (path === '/users/me/videos') return list(exchange)
      if (path === '/videos/upload-resumable') return uploads.handle(exchange)
      const [, , uuid = '', part] = path.split('/')
      const video = videos.get(uuid)
      if (!video) return exchange.answer(404, problem(404, 'not_found'))
      if (part === 'source') return exchange.answer(200, { inputFilename: video.file, filename: video.file })
      if (method === 'GET') return exchange.answer(200, present(video))
      videos.delete(uuid)
      exchange.answer(204)
    },

    cut: (exchange, bytes) => uploads.cut(exchange, bytes),
  })

  function list({ url, answer }: Exchange) {
    if (url.searchParams.get('sort') !== '-createdAt') wrong(`sort=${url.searchParams.get('sort')}`)
    const count = Number(url.searchParams.get('count'))
    if (!(count >= 1 && count <= 100)) wrong(`count=${count}`)
    const start = Number(url.searchParams.get('start') ?? 0)
    const data = [...videos.values()].reverse().slice(start, start + count)
    answer(200, { total: videos.size, data: data.map(({ uuid, name }) => ({ uuid, name })) })
  }

  const file = (uuid: string, height: number, split: boolean) => ({
    resolution: { id: height, label: `${height}p` },
    fileUrl: `${origin}/static/web-videos/${uuid}-${height}.mp4`,
    width: Math.round((height * 16) / 9),
    height,
    hasAudio: !split || height === 0,
    hasVideo: height > 0,
  })
  const present = (video: Video) => {
    const { uuid, name, state, described, publishedAt, renditions, split = false, plain } = video
    const files = renditions.map((height) => file(uuid, height, split))
    const playlists = [{ type: 1, playlistUrl: playlist(video), files }]
    return {
      id: 1,
      uuid,
      name,
      duration: 4,
      aspectRatio: 1.7778,
      publishedAt: new Date(publishedAt).toISOString(),
      state: { id: state, label: labels[state] ?? 'New' },
      previewPath: described ? preview(video) : null,
      files: plain ? files : [],
      streamingPlaylists: described && state === 1 && !plain ? playlists : [],
    }
  }
  /** Has a new name with each rendition that it lists. */
  const playlist = ({ uuid, listed, names }: Video) =>
    `${origin}/static/streaming-playlists/hls/${uuid}/${names}${listed}-master.m3u8`
  const preview = ({ uuid, names }: Video) => `/lazy-static/previews/${names}${uuid}.jpg`

  function answerPlaylist({ url, answer }: Exchange) {
    const video = [...videos.values()].find((one) => playlist(one) === url.href)
    if (!video) return answer(404, problem(404, 'not_found'))
    const lines = video.renditions.slice(0, video.listed).map((height) => {
      if (height > 0) return `#EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=1x${height}\n${height}.m3u8\n`
      return video.split ? '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",URI="0.m3u8"\n' : ''
    })
    answer(200, `#EXTM3U\n${lines.join('')}`, { 'content-type': 'application/vnd.apple.mpegurl' })
  }

  const enter = (title: string, state: number, changes: Partial<Video> = {}) =>
    void Object.assign(byTitle(title)!, { state, described: true, ...whole, ...changes })

  return {
    ...kit,
    definition: peertube,
    variables: {
      PEERTUBE_BASE_URL: origin,
      PEERTUBE_USERNAME: account.username,
      PEERTUBE_PASSWORD: account.password,
      PEERTUBE_CHANNEL_ID: String(channelId),
      PEERTUBE_CHUNK_SIZE: '65536',
    },
    provisionsAtUpload: true,
    statusWords: {
      1: 'ready',
      '1, with the best rendition': 'processing',
      '1, with a rendition that the playlist does not name yet': 'processing',
      '1, with the best rendition, published long ago': 'ready',
      '1, with audio apart that the playlist does not name yet': 'processing',
      '1, with audio apart': 'ready',
      '1, with audio once more in a rendition of its own': 'ready',
      '1, without a picture': 'failed',
      '1, without a picture, in a playlist': 'failed',
      2: 'processing',
      3: 'processing',
      4: 'processing',
      5: 'processing',
      6: 'processing',
      7: 'failed',
      8: 'failed',
      9: 'processing',
      10: 'processing',
      11: 'failed',
      12: 'failed',
    },
    unknownStatusWord: '4711',
    setStatus: (title, word) => enter(title, Number.parseInt(word, 10), unfinished[word]),
    finish: (title) => enter(title, 1),
    rename: (title) => void Object.assign(byTitle(title)!, { names: 'v2-' }),
    finishWithoutMetadata: (title) => enter(title, 1, { described: false }),
    failProcessing(title) {
      enter(title, 7)
      return labels[7]!
    },
    content: (title) => byTitle(title)?.content,
    leftovers: () => videos.size + uploads.open(),
    expected(title) {
      const video = byTitle(title)!
      return {
        info: {
          launchUrl: playlist(video),
          mimeType: 'application/vnd.apple.mpegurl',
          width: 1280,
          height: 720,
          duration: 4,
        },
        thumbnail: {
          url: `${origin}${preview(video)}`,
          mimeType: 'image/jpeg',
          width: 850,
          height: 480,
        },
      }
    },
    tokens: { requests: () => kit.calls('token'), revoke: tokens.revoke },
    chunkSize: 65_536,
    secrets: tokens.secrets,
  }
}
