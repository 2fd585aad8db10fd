import { randomBytes } from 'node:crypto'
import { apiVideo } from '../../../src/platform/api-video/api-video.ts'
import { jpeg } from '../../support/image.ts'
import { fileOf } from '../../support/multipart.ts'
import { createKit, type Exchange, type PlatformDouble } from '../double.ts'
import { publishedDocument } from '../published.ts'
import type { AccessToken, NewVideo, TokenRequest, Video, VideoList } from './api-video-shapes.ts'
import { statusOf, statusWords, withoutMetadata } from './api-video-states.ts'

interface Slot {
  id: string
  title: string
  metadata: NonNullable<Video['metadata']>
  word: string
  parts: Map<number, Buffer>
  total: number | null
  /** Part of the path of its files. */
  revision: string
  content?: Buffer
}

const apiKey = 'api-key-of-the-suite'
/** Stands for the vendor's 5 MiB, and for its 200 MiB. */
const smallestPart = 65_536
const largestSingle = 65_536

/** Known of its document: where that is silent. */
const published = publishedDocument('api-video', {
  'GET /vod/': 'images are no part of the API',
  'GET /videos/{videoId}/status 200 /ingest/status': 'the suite has more words, see there',
})

/** A double of api.video, made after its published OpenAPI document. */
export async function startDouble(): Promise<PlatformDouble> {
  const kit = createKit(published)
  const videos = new Map<string, Slot>()
  const tokens = new Set<string>()
  const refreshTokens = new Set<string>()
  const issued: string[] = []
  const wrong = (text: string) => void kit.violations.push(text)
  const byTitle = (title: string) => [...videos.values()].find((video) => video.title === title)

  const origin = await kit.listen({
    operations(method, { pathname }) {
      if (method === 'POST' && /^\/auth\/(api-key|refresh)$/.test(pathname)) return ['token']
      if (pathname === '/videos') return method === 'POST' ? ['provision'] : method === 'GET' ? ['find'] : []
      if (/^\/videos\/\w+\/source$/.test(pathname) && method === 'POST') return ['upload']
      if (/^\/videos\/\w+\/status$/.test(pathname) && method === 'GET') return ['status', 'info']
      if (/^\/videos\/\w+$/.test(pathname)) {
        return method === 'DELETE' ? ['remove'] : method === 'GET' ? ['info', 'thumbnail'] : []
      }
      return /^\/vod\/\w+\/(r2\/)?thumbnail.jpg$/.test(pathname) ? ['thumbnail'] : []
    },

    async handle(exchange) {
      const { method, url, headers } = exchange
      const [, kind, id = '', part] = url.pathname.split('/')
      if (kind === 'auth') return giveToken(exchange, id)
      if (kind === 'vod') {
        if (headers.authorization) wrong('the image is asked for with our token')
        if (!headers.range) wrong('more of the image is asked for than its start')
        const { revision } = videos.get(id)!
        if (url.pathname !== `/vod/${id}/${revision}thumbnail.jpg`) return exchange.answer(404)
        return exchange.answer(206, jpeg(1280, 720), { 'content-type': 'image/jpeg' })
      }
      if (!tokens.has(headers.authorization ?? '')) return exchange.answer(401, problem(401, 'Unauthorized'))
      if (!id && method === 'POST') return create(exchange)
      if (!id) return list(exchange)
      const video = videos.get(id)
      if (!video) return exchange.answer(404, problem(404, 'The requested resource was not found.'))
      if (part === 'source') return take(exchange, video)
      if (part === 'status') return exchange.answer(200, statusOf(video))
      if (method === 'GET') return exchange.answer(200, present(video))
      videos.delete(id)
      exchange.answer(204)
    },
  })

  async function giveToken(exchange: Exchange, way: string) {
    if (exchange.headers.authorization) wrong('a token is asked for with a token')
    const { apiKey: key, refreshToken, ...rest }: TokenRequest = await exchange.json()
    if (Object.keys(rest).length > 0) wrong('unknown fields in a token request')
    const granted = way === 'refresh' ? refreshTokens.delete(String(refreshToken)) : key === apiKey
    if (!granted) return exchange.answer(400, problem(400, 'The user credentials were incorrect.'))
    const [token, refresh] = [randomBytes(12).toString('hex'), randomBytes(12).toString('hex')]
    tokens.add(`Bearer ${token}`)
    refreshTokens.add(refresh)
    issued.push(token, refresh)
    exchange.answer(200, {
      token_type: 'Bearer',
      expires_in: 3600,
      access_token: token,
      refresh_token: refresh,
    } satisfies AccessToken)
  }

  async function create(exchange: Exchange) {
    const { title = '', description, metadata = [], ...rest }: Partial<NewVideo> = await exchange.json()
    if (exchange.headers['content-type'] !== 'application/json') wrong('a video is not created as JSON')
    if (typeof title !== 'string' || title === '') wrong('a video without title')
    if (description !== undefined && typeof description !== 'string') wrong('a description that is no text')
    if (!Array.isArray(metadata) || metadata.some(({ key, value }) => !key || typeof value !== 'string'))
      wrong('metadata that are no list of keys and values')
    if (Object.keys(rest).length > 0) wrong(`fields of a video that are none of ours: ${Object.keys(rest)}`)
    const id = `vi${randomBytes(8).toString('hex')}`
    const video: Slot = { id, title, metadata, word: 'missing', parts: new Map(), total: null, revision: '' }
    videos.set(id, video)
    exchange.answer(201, present(video))
  }

  function list({ url, answer }: Exchange) {
    const wanted = [...url.searchParams].flatMap(([name, value]) => {
      const key = /^metadata\[(.+)\]$/.exec(name)?.[1]
      if (!key && name !== 'pageSize') wrong(`a list filtered by ${name}`)
      return key ? [{ key, value }] : []
    })
    const found = [...videos.values()].filter(({ metadata }) =>
      wanted.every((pair) => metadata.some(({ key, value }) => key === pair.key && value === pair.value)),
    )
    const pagination = { links: [], itemsTotal: found.length }
    answer(200, { data: found.map(present), pagination } satisfies VideoList)
  }

  async function take(exchange: Exchange, video: Slot) {
    const { headers } = exchange
    if (headers['transfer-encoding']) wrong('an upload without Content-Length')
    const { bytes, complete } = await exchange.body()
    if (!complete) {
      video.word = 'uploading'
      return
    }
    if (video.content)
      return exchange.answer(400, problem(400, 'The source of the video is already uploaded.'))
    const file = fileOf(bytes, headers['content-type'] ?? '')
    if (!file) {
      wrong('an upload that is no multipart body with the one part `file`')
      return exchange.answer(400, problem(400, 'There is no uploaded file in the request.'))
    }
    const range = headers['content-range']
    if (range === undefined) {
      if (file.length > largestSingle) wrong(`${file.length} bytes in one request`)
      return finishUpload(exchange, video, file)
    }
    const [, number, total] = /^part (\d+)\/(\d+|\*)$/.exec(String(range)) ?? []
    if (!number || (total !== '*' && Number(number) > Number(total))) wrong(`Content-Range: ${range}`)
    if (number !== total && file.length < smallestPart) wrong(`a part of ${file.length} bytes`)
    if (video.total !== null && total !== '*' && video.total !== Number(total)) wrong('parts of two uploads')
    if (total !== '*') video.total = Number(total)
    video.parts.set(Number(number), file)
    video.word = 'uploading'
    if (video.parts.size !== video.total) return exchange.answer(201, present(video))
    const numbers = [...video.parts.keys()].sort((one, other) => one - other)
    finishUpload(exchange, video, Buffer.concat(numbers.map((key) => video.parts.get(key)!)))
  }

  function finishUpload(exchange: Exchange, video: Slot, content: Buffer) {
    Object.assign(video, { content, word: 'uploaded' })
    exchange.answer(201, present(video))
  }

  const present = ({ id, title, metadata, revision }: Slot) =>
    ({
      videoId: id,
      title,
      public: true,
      mp4Support: true,
      metadata,
      source: { uri: `/videos/${id}/source` },
      assets: {
        player: `https://embed.api.video/vod/${id}`,
        hls: `${origin}/vod/${id}/${revision}hls/manifest.m3u8`,
        thumbnail: `${origin}/vod/${id}/${revision}thumbnail.jpg`,
        mp4: `${origin}/vod/${id}/${revision}mp4/source.mp4`,
      },
    }) satisfies Video

  return {
    ...kit,
    definition: apiVideo,
    variables: {
      API_VIDEO_BASE_URL: origin,
      API_VIDEO_API_KEY: apiKey,
      API_VIDEO_PART_SIZE: String(smallestPart),
      API_VIDEO_SINGLE_MAX: String(largestSingle),
    },
    provisionsAtUpload: false,
    statusWords,
    unknownStatusWord: 'quarantined',
    setStatus: (title, word) => void Object.assign(byTitle(title)!, { word }),
    finish: (title) => void Object.assign(byTitle(title)!, { word: 'playable' }),
    finishWithoutMetadata: (title) => void Object.assign(byTitle(title)!, { word: withoutMetadata }),
    rename: (title) => void Object.assign(byTitle(title)!, { revision: 'r2/' }),
    failProcessing(title) {
      Object.assign(byTitle(title)!, { word: 'all failed' })
      return 'could not encode the video'
    },
    content: (title) => byTitle(title)?.content,
    leftovers: () => videos.size,
    expected(title) {
      const { assets } = present(byTitle(title)!)
      return {
        info: {
          launchUrl: assets.hls,
          mimeType: 'application/vnd.apple.mpegurl',
          width: 1920,
          height: 1080,
          duration: 12,
        },
        thumbnail: { url: assets.thumbnail, mimeType: 'image/jpeg', width: 1280, height: 720 },
      }
    },
    tokens: { requests: () => kit.calls('token'), revoke: () => tokens.clear() },
    chunkSize: smallestPart,
    secrets: () => [apiKey, ...issued],
  }
}

const problem = (status: number, title: string) => ({
  type: 'https://docs.api.video/reference/problem',
  title,
  status,
})
