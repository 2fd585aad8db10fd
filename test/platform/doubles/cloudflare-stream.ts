import { randomBytes } from 'node:crypto'
import { cloudflareStream } from '../../../src/platform/cloudflare-stream.ts'
import { createKit, type Exchange, type PlatformDouble } from '../double.ts'

interface Video {
  uid: string
  name: string
  creator: string
  length: number
  received: Buffer
  state: string
  playable: boolean
  reason: string
  measured: boolean
}

const account = '023e105f4ecef8ad9ca31a8372d0c353'
const token = 'token-of-the-suite'
/** The vendor's rule of chunks, 256 times smaller: at least 5 MiB, at most 200 MiB, a multiple of 256 KiB. */
const rule = { min: 20 * 1024, max: 800 * 1024, unit: 1024 }
const chunkSize = 64 * 1024
/** Another word of the double's: the state is ready, but no quality can be played yet. */
const notPlayable = 'ready, not playable'

/**
 * Cloudflare Stream as far as the gateway uses it: the API, and a tus server of its own that needs no token. What
 * arrived of a cut chunk is kept in whole units.
 */
export async function startDouble(): Promise<PlatformDouble> {
  const kit = createKit()
  const videos = new Map<string, Video>()
  let uploadUrl: string | undefined

  const stream = `/client/v4/accounts/${account}/stream`
  const byName = (name: string) => [...videos.values()].findLast((video) => video.name === name)!
  const expect = (fine: boolean, problem: string) => void (fine || kit.violations.push(problem))

  const uploadOrigin = await kit.listen({
    operations: (method, { pathname }) =>
      pathname.startsWith('/tus/') && (method === 'PATCH' || method === 'HEAD') ? ['upload'] : [],
    async handle(exchange) {
      const video = videos.get(exchange.url.pathname.split('/')[2]!)
      checkTus(exchange)
      expect(exchange.headers.authorization === undefined, 'the upload carries our token')
      if (!video) return exchange.answer(404)
      if (exchange.method === 'HEAD') return exchange.answer(200, undefined, standing(video))
      await patch(exchange, video)
    },
    cut({ url }, bytes) {
      const video = videos.get(url.pathname.split('/')[2]!)
      if (video) keepWholeUnits(video, bytes)
    },
  })

  const origin = await kit.listen({
    operations(method, { pathname, searchParams }) {
      if (pathname === stream && method === 'POST') return ['provision']
      if (pathname === stream && method === 'GET' && searchParams.has('creator')) return ['find']
      if (!pathname.startsWith(`${stream}/`)) return []
      if (method === 'DELETE') return ['remove']
      return method === 'GET' ? ['status', 'info', 'thumbnail'] : []
    },
    handle(exchange) {
      const { method, url, headers } = exchange
      if (headers.authorization !== `Bearer ${token}`) {
        kit.violations.push('no token')
        return exchange.answer(401, refused(10000))
      }
      if (url.pathname === stream && method === 'POST') return create(exchange)
      if (url.pathname === stream) {
        const creator = url.searchParams.get('creator')
        return exchange.answer(
          200,
          wrap([...videos.values()].filter((video) => video.creator === creator).map(present)),
        )
      }
      const video = videos.get(url.pathname.slice(stream.length + 1))
      if (!video) return exchange.answer(404, refused(10003))
      if (method === 'GET') return exchange.answer(200, wrap(present(video)))
      videos.delete(video.uid)
      exchange.answer(200)
    },
  })

  function create(exchange: Exchange) {
    const { headers, url } = exchange
    checkTus(exchange)
    const metadata = metadataOf(String(headers['upload-metadata'] ?? ''))
    const length = Number(headers['upload-length'])
    const creator = String(headers['upload-creator'] ?? '')
    const duration = Number(metadata.maxDurationSeconds)
    const life = (Date.parse(metadata.expiry ?? '') - Date.now()) / 60_000
    expect(url.searchParams.get('direct_user') === 'true', 'the upload URL will need our token')
    expect(Number.isInteger(length) && length >= 0, 'no Upload-Length')
    expect(Boolean(metadata.name), 'a video without a name')
    expect(duration >= 1 && duration <= 36_000, 'maxDurationSeconds out of range')
    expect(life >= 2 && life <= 360, 'expiry out of range')
    expect(!('requiresignedurls' in metadata), 'the video could only be seen with signed URLs')
    expect(creator.length > 0 && creator.length <= 64, 'no creator')
    const video: Video = {
      uid: randomBytes(16).toString('hex'),
      name: metadata.name!,
      creator,
      length,
      received: Buffer.alloc(0),
      state: 'pendingupload',
      playable: false,
      reason: '',
      measured: false,
    }
    videos.set(video.uid, video)
    exchange.answer(201, undefined, {
      location: uploadUrl ?? `${uploadOrigin}/tus/${video.uid}?tusv2=true`,
      'stream-media-id': video.uid,
      'tus-resumable': '1.0.0',
    })
  }

  async function patch(exchange: Exchange, video: Video) {
    const { headers } = exchange
    const { bytes, complete } = await exchange.body()
    expect(headers['content-type'] === 'application/offset+octet-stream', 'a chunk of the wrong type')
    if (headers['upload-offset'] !== String(video.received.length)) {
      kit.violations.push(
        `a chunk at ${headers['upload-offset']}, the upload stands at ${video.received.length}`,
      )
      return exchange.answer(409)
    }
    if (!complete) return keepWholeUnits(video, bytes)
    const last = video.received.length + bytes.length === video.length
    const fits = bytes.length >= rule.min && bytes.length <= rule.max && bytes.length % rule.unit === 0
    if (
      video.received.length + bytes.length > video.length ||
      !(fits || (last && bytes.length <= rule.max))
    ) {
      kit.violations.push(`a chunk of ${bytes.length} bytes`)
      return exchange.answer(400)
    }
    video.received = Buffer.concat([video.received, bytes])
    if (last) video.state = 'queued'
    exchange.answer(204, undefined, standing(video))
  }

  function checkTus({ headers, method }: Exchange) {
    expect(headers['tus-resumable'] === '1.0.0', `${method} without the version of tus`)
  }

  const present = (video: Video) => ({
    uid: video.uid,
    creator: video.creator,
    meta: { name: video.name },
    readyToStream: video.playable,
    status: {
      state: video.state,
      ...(video.state === 'inprogress' && { pctComplete: '39.000000' }),
      errorReasonCode: video.reason && 'ERR_MALFORMED_VIDEO',
      errorReasonText: video.reason,
    },
    input: video.measured ? { width: 1920, height: 1080 } : { width: -1, height: -1 },
    duration: video.measured ? 5.5 : -1,
    playback: { hls: at(video, 'manifest/video.m3u8'), dash: at(video, 'manifest/video.mpd') },
    ...(video.measured && { thumbnail: at(video, 'thumbnails/thumbnail.jpg') }),
    requireSignedURLs: false,
    maxSizeBytes: null,
  })
  const at = ({ uid }: Video, path: string) =>
    `https://customer-f33zs165nr7gyfy4.cloudflarestream.com/${uid}/${path}`

  return {
    ...kit,
    definition: cloudflareStream,
    variables: {
      CLOUDFLARE_STREAM_BASE_URL: `${origin}/client/v4`,
      CLOUDFLARE_STREAM_ACCOUNT_ID: account,
      CLOUDFLARE_STREAM_API_TOKEN: token,
      CLOUDFLARE_STREAM_CHUNK_SIZE: String(chunkSize),
    },
    provisionsAtUpload: true,
    statusWords: [
      // Of an upload that tus has taken in full: the state lags behind.
      { word: 'pendingupload', expect: 'processing' },
      { word: 'downloading', expect: 'processing' },
      { word: 'queued', expect: 'processing' },
      { word: 'inprogress', expect: 'processing' },
      { word: 'live-inprogress', expect: 'processing' },
      { word: notPlayable, expect: 'processing' },
      { word: 'ready', expect: 'ready' },
      { word: 'error', expect: 'failed' },
    ],
    unknownStatusWord: 'archived',
    setStatus: (title, word) =>
      void Object.assign(byName(title), {
        state: word === notPlayable ? 'ready' : word,
        playable: word === 'ready',
      }),
    finish: (title) => void Object.assign(byName(title), { state: 'ready', playable: true, measured: true }),
    finishWithoutMetadata: (title) =>
      void Object.assign(byName(title), { state: 'ready', playable: true, measured: false }),
    failProcessing(title) {
      const reason = 'The video was deemed to be corrupted or malformed.'
      Object.assign(byName(title), { state: 'error', reason })
      return reason
    },
    content(title) {
      const { received, length } = byName(title)
      return received.length === length ? received : undefined
    },
    leftovers: () => videos.size,
    expected(title) {
      const video = byName(title)
      return {
        info: {
          launchUrl: at(video, 'manifest/video.m3u8'),
          mimeType: 'application/vnd.apple.mpegurl',
          width: 1920,
          height: 1080,
          duration: 5.5,
        },
        thumbnail: {
          url: at(video, 'thumbnails/thumbnail.jpg?width=640&height=360'),
          mimeType: 'image/jpeg',
          width: 640,
          height: 360,
        },
      }
    },
    chunkSize,
    giveUploadUrl(url) {
      uploadUrl = url
    },
    secrets: () => [token],
  }
}

function standing({ received, length }: Video) {
  return {
    'tus-resumable': '1.0.0',
    'upload-offset': String(received.length),
    'upload-length': String(length),
  }
}

function keepWholeUnits(video: Video, bytes: Buffer): void {
  const kept = bytes.subarray(0, bytes.length - (bytes.length % rule.unit))
  video.received = Buffer.concat([video.received, kept])
}

function metadataOf(header: string): Record<string, string> {
  const pairs = header.split(',').map((pair) => pair.split(' '))
  return Object.fromEntries(pairs.map(([key, value = '']) => [key, Buffer.from(value, 'base64').toString()]))
}

const wrap = (result: unknown) => ({ result, success: true, errors: [], messages: [] })
const refused = (code: number) => ({
  result: null,
  success: false,
  errors: [{ code, message: 'refused' }],
  messages: [],
})
