import { randomBytes, randomUUID } from 'node:crypto'
import { peertube } from '../../../src/platform/peertube.ts'
import { jpeg } from '../../support/image.ts'
import { createKit, type Exchange, type PlatformDouble } from '../double.ts'
import { publishedDocument } from '../published.ts'
import { createUploads, problem, problemType } from './peertube-uploads.ts'

interface Video {
  uuid: string
  name: string
  file: string
  content: Buffer
  state: number
  described: boolean
}

const account = { username: 'root', password: 'the password of the suite' }
const client = { id: randomBytes(16).toString('hex'), secret: randomBytes(16).toString('hex') }
const channelId = 7

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
  'POST /api/v1/videos/upload-resumable /lastModified': 'read by node-uploadx, not by PeerTube itself',
  'DELETE /api/v1/videos/upload-resumable lacks header Content-Length':
    'not sent without a body, not missed either',
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
  const tokens = new Set<string>()
  const refreshTokens = new Set<string>()
  const issued: string[] = []
  const wrong = (text: string) => void kit.violations.push(text)
  const byTitle = (title: string) => [...videos.values()].find(({ name }) => name === title)

  const uploads = createUploads({
    wrong,
    channelId,
    finished({ name, filename }, content) {
      const uuid = randomUUID()
      videos.set(uuid, { uuid, name: name.trim(), file: filename, content, state: 2, described: true })
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
      if (/^GET \/lazy-static\/previews\/[\w-]+.jpg$/.test(call)) return ['thumbnail']
      // What is looked up on the way to something else.
      const lookUp = /^GET \/(oauth-clients\/local|users\/me|users\/me\/videos|videos\/[\w-]+\/source)$/
      return lookUp.test(call) ? ['find'] : []
    },

    async handle(exchange) {
      const { method, url, headers } = exchange
      const path = url.pathname.replace('/api/v1', '')
      if (path === '/oauth-clients/local')
        return exchange.answer(200, { client_id: client.id, client_secret: client.secret })
      if (path === '/users/token') return giveToken(exchange)
      if (path.startsWith('/lazy-static/')) {
        if (headers.authorization) wrong('the image is asked for with our token')
        return exchange.answer(200, jpeg(850, 480), { 'content-type': 'image/jpeg' })
      }
      if (!tokens.has(headers.authorization ?? '')) return exchange.answer(401, problem(401, 'invalid_token'))
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

  async function giveToken(exchange: Exchange) {
    const { bytes } = await exchange.body()
    const form = new URLSearchParams(bytes.toString())
    if (exchange.headers.authorization) wrong('a token is asked for with an Authorization header')
    if (!exchange.headers['content-type']?.startsWith('application/x-www-form-urlencoded'))
      wrong('a token is not asked for with a form')
    if (form.get('client_id') !== client.id || form.get('client_secret') !== client.secret)
      return exchange.answer(400, problem(400, 'invalid_client'), problemType)
    const type = form.get('grant_type')
    if (type !== 'password' && type !== 'refresh_token') wrong(`grant type ${type}`)
    const granted =
      type === 'password'
        ? form.get('username') === account.username && form.get('password') === account.password
        : refreshTokens.delete(form.get('refresh_token') ?? '')
    if (!granted) return exchange.answer(400, problem(400, 'invalid_grant'), problemType)
    const [token, refresh] = [randomBytes(20).toString('hex'), randomBytes(20).toString('hex')]
    tokens.add(`Bearer ${token}`)
    refreshTokens.add(refresh)
    issued.push(token, refresh)
    exchange.answer(200, {
      token_type: 'Bearer',
      access_token: token,
      refresh_token: refresh,
      expires_in: 86_399,
      refresh_token_expires_in: 1_209_599,
    })
  }

  function list({ url, answer }: Exchange) {
    if (url.searchParams.get('sort') !== '-createdAt') wrong(`sort=${url.searchParams.get('sort')}`)
    const count = Number(url.searchParams.get('count'))
    if (!(count >= 1 && count <= 100)) wrong(`count=${count}`)
    const data = [...videos.values()].reverse().slice(0, count)
    answer(200, { total: videos.size, data: data.map(({ uuid, name }) => ({ uuid, name })) })
  }

  const file = (uuid: string, height: number, width: number) => ({
    resolution: { id: height, label: `${height}p` },
    fileUrl: `${origin}/static/web-videos/${uuid}-${height}.mp4`,
    width,
    height,
  })
  const present = ({ uuid, name, state, described }: Video) => {
    const files = [file(uuid, 240, 426), file(uuid, 720, 1280)]
    return {
      id: 1,
      uuid,
      name,
      duration: 4,
      aspectRatio: 1.7778,
      state: { id: state, label: labels[state] ?? 'New' },
      previewPath: described ? `/lazy-static/previews/${uuid}.jpg` : null,
      files: described && state === 1 ? files.slice(1) : [],
      streamingPlaylists: described && state === 1 ? [{ type: 1, playlistUrl: playlist(uuid), files }] : [],
    }
  }
  const playlist = (uuid: string) => `${origin}/static/streaming-playlists/hls/${uuid}/master.m3u8`

  const enter = (title: string, state: number, described = true) =>
    void Object.assign(byTitle(title)!, { state, described })

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
    setStatus: (title, word) => enter(title, Number(word)),
    finish: (title) => enter(title, 1),
    finishWithoutMetadata: (title) => enter(title, 1, false),
    failProcessing(title) {
      enter(title, 7)
      return labels[7]!
    },
    content: (title) => byTitle(title)?.content,
    leftovers: () => videos.size + uploads.open(),
    expected(title) {
      const { uuid } = byTitle(title)!
      return {
        info: {
          launchUrl: playlist(uuid),
          mimeType: 'application/vnd.apple.mpegurl',
          width: 1280,
          height: 720,
          duration: 4,
        },
        thumbnail: {
          url: `${origin}/lazy-static/previews/${uuid}.jpg`,
          mimeType: 'image/jpeg',
          width: 850,
          height: 480,
        },
      }
    },
    tokens: { requests: () => kit.calls('token'), revoke: () => tokens.clear() },
    chunkSize: 65_536,
    secrets: () => [account.password, client.secret, ...issued],
  }
}
