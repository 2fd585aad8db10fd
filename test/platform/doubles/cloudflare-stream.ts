import { randomBytes } from 'node:crypto'
import type {
  DirectUploadCreateParams,
  DirectUploadCreateResponse,
} from 'cloudflare/resources/stream/direct-upload'
import type { StreamCreateParams, StreamListParams, Video } from 'cloudflare/resources/stream/stream'
import { cloudflareStream } from '../../../src/platform/cloudflare-stream/cloudflare-stream.ts'
import { createKit, type Exchange, type PlatformDouble } from '../double.ts'
import {
  metadataOf,
  notPlayable,
  refused,
  type State,
  statusWords,
  wrap,
} from './cloudflare-stream-answers.ts'

interface Upload {
  uid: string
  name: string
  creator: string
  length: number
  received: Buffer
  state: State
  playable: boolean
  reason: string
  measured: boolean
  /** Of the customer, part of the host of its URLs. */
  code: string
}

interface Limits {
  /** In seconds. */
  duration: number
  expiry: string
}

const account = '023e105f4ecef8ad9ca31a8372d0c353'
const token = 'token-of-the-suite'
/** The vendor's rule of chunks, 256 times smaller: at least 5 MiB, at most 200 MiB, a multiple of 256 KiB. */
const rule = { min: 20 * 1024, max: 800 * 1024, unit: 1024 }
const chunkSize = 64 * 1024
const byCreator: keyof StreamListParams = 'creator'
const directUser: keyof StreamCreateParams = 'direct_user'

/**
 * Cloudflare Stream as far as the gateway uses it: the API, and a tus server of its own that needs no token. What
 * arrived of a cut chunk is kept in whole units.
 */
export async function startDouble(): Promise<PlatformDouble> {
  const kit = createKit()
  const videos = new Map<string, Upload>()
  const uploadToken = randomBytes(12).toString('hex')
  let uploadUrl: string | undefined

  const stream = `/client/v4/accounts/${account}/stream`
  const change = (name: string, changes: Partial<Upload>) => void Object.assign(byName(name), changes)
  const byName = (name: string) => [...videos.values()].findLast((video) => video.name === name)!
  const expect = (fine: boolean, problem: string) => void (fine || kit.violations.push(problem))

  const uploadOrigin = await kit.listen({
    operations: (method, { pathname }) =>
      (pathname.startsWith('/tus/') && (method === 'PATCH' || method === 'HEAD')) ||
      (pathname.startsWith('/form/') && method === 'POST')
        ? ['upload']
        : [],
    async handle(exchange) {
      const video = videos.get(exchange.url.pathname.split('/')[2]!)
      if (exchange.method !== 'POST') checkTus(exchange)
      expect(exchange.headers.authorization === undefined, 'the upload carries our token')
      expect(exchange.url.searchParams.get('token') === uploadToken, 'not the upload URL')
      if (!video) return exchange.answer(404)
      if (exchange.method === 'POST') return takeForm(exchange, video)
      if (exchange.method === 'HEAD') return exchange.answer(200, undefined, standing(video))
      await patch(exchange, video)
    },
    cut({ url }, bytes) {
      const video = videos.get(url.pathname.split('/')[2]!)
      if (video && url.pathname.startsWith('/tus/')) keepWholeUnits(video, bytes)
    },
  })

  const origin = await kit.listen({
    operations(method, { pathname }) {
      if ((pathname === stream || pathname === `${stream}/direct_upload`) && method === 'POST')
        return ['provision']
      if (pathname === stream && method === 'GET') return ['find']
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
      if (url.pathname === `${stream}/direct_upload`) return createDirect(exchange)
      if (url.pathname === stream) {
        const creator = url.searchParams.get(byCreator)
        return exchange.answer(
          200,
          wrap(
            [...videos.values()]
              .filter((video) => creator === null || video.creator === creator)
              .map(present),
          ),
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
    const header = (name: keyof StreamCreateParams) => String(headers[name.toLowerCase()] ?? '')
    checkTus(exchange)
    const { name = '', maxDurationSeconds, expiry = '', ...others } = metadataOf(header('Upload-Metadata'))
    const length = Number(header('Upload-Length'))
    const creator = header('Upload-Creator')
    const duration = Number(maxDurationSeconds)
    expect(url.searchParams.get(directUser) === 'true', 'the upload URL will need our token')
    expect(Number.isInteger(length) && length >= 0, 'no Upload-Length')
    expect(name !== '', 'a video without a name')
    expect(Object.keys(others).length === 0, `unknown metadata ${Object.keys(others)}`)
    const video = add({ name, creator, duration, expiry, length })
    exchange.answer(201, undefined, {
      location: uploadUrl ?? `${uploadOrigin}/tus/${video.uid}?tusv2=true&token=${uploadToken}`,
      'stream-media-id': video.uid,
      'tus-resumable': '1.0.0',
    })
  }

  /** A one-time URL for a form of at most 200 MB. */
  async function createDirect(exchange: Exchange) {
    const body = await exchange.json()
    const { maxDurationSeconds, creator, expiry, meta, ...others }: Partial<DirectUploadCreateParams> = body
    expect(Object.keys(others).length === 0, `unknown parameters ${Object.keys(others)}`)
    const { name = '' } = (meta ?? {}) as { name?: string }
    const traits = { name, creator: creator ?? '', duration: maxDurationSeconds ?? 0, expiry: expiry ?? '' }
    const { uid } = add({ ...traits, length: Number.NaN })
    const uploadURL = uploadUrl ?? `${uploadOrigin}/form/${uid}?token=${uploadToken}`
    exchange.answer(200, wrap({ uid, uploadURL } satisfies DirectUploadCreateResponse))
  }

  function add({
    duration,
    expiry,
    ...traits
  }: Pick<Upload, 'name' | 'creator' | 'length'> & Limits): Upload {
    const life = (Date.parse(expiry) - Date.now()) / 60_000
    expect(duration >= 1 && duration <= 36_000, 'maxDurationSeconds out of range')
    expect(life >= 2 && life <= 360, 'expiry out of range')
    expect(traits.creator.length > 0 && traits.creator.length <= 64, 'no creator')
    const video: Upload = {
      uid: randomBytes(16).toString('hex'),
      ...traits,
      received: Buffer.alloc(0),
      state: 'pendingupload',
      playable: false,
      reason: '',
      measured: false,
      code: 'f33zs165nr7gyfy4',
    }
    videos.set(video.uid, video)
    return video
  }

  /** Reads the file of a form with one part, as a parser by RFC 2046 does: what follows the closing delimiter is ignored. */
  async function takeForm(exchange: Exchange, video: Upload) {
    const { headers } = exchange
    const { bytes, complete } = await exchange.body()
    if (!complete) return
    const boundary = /^multipart\/form-data; boundary=(\S+)$/.exec(headers['content-type'] ?? '')?.[1]
    const from = bytes.indexOf('\r\n\r\n') + 4
    const to = bytes.indexOf(`\r\n--${boundary}--\r\n`, from)
    const head = bytes.toString('latin1', 0, from)
    const fine =
      headers['transfer-encoding'] === undefined &&
      to >= from &&
      head.startsWith(`--${boundary}\r\n`) &&
      head.includes('form-data; name="file"; filename=')
    expect(fine, `a form that begins with ${head}`)
    // A URL takes one file.
    if (!fine || video.state !== 'pendingupload') return exchange.answer(400)
    video.received = bytes.subarray(from, to)
    video.length = video.received.length
    video.state = 'queued'
    exchange.answer(200)
  }

  async function patch(exchange: Exchange, video: Upload) {
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

  function present(video: Upload): Video {
    const shown: Video = {
      uid: video.uid,
      creator: video.creator,
      meta: { name: video.name },
      readyToStream: video.playable,
      status: {
        state: video.state,
        errorReasonCode: video.reason && 'ERR_MALFORMED_VIDEO',
        errorReasonText: video.reason,
      },
      input: video.measured ? { width: 1920, height: 1080 } : { width: -1, height: -1 },
      duration: video.measured ? 5.5 : -1,
      playback: { hls: at(video, 'manifest/video.m3u8'), dash: at(video, 'manifest/video.mpd') },
      requireSignedURLs: false,
    }
    if (video.measured) shown.thumbnail = at(video, 'thumbnails/thumbnail.jpg')
    return shown
  }
  const at = ({ uid, code }: Upload, path: string) =>
    `https://customer-${code}.cloudflarestream.com/${uid}/${path}`

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
    statusWords,
    unknownStatusWord: 'archived',
    setStatus: (title, word) =>
      change(title, {
        state: word === notPlayable ? 'ready' : (word as State),
        playable: word === 'ready',
      }),
    finish: (title) => change(title, { state: 'ready', playable: true, measured: true }),
    rename: (title) => change(title, { code: 'zzz9s165nr7gyfy4' }),
    finishWithoutMetadata: (title) => change(title, { state: 'ready', playable: true, measured: false }),
    failProcessing(title) {
      const reason = 'The video was deemed to be corrupted or malformed.'
      change(title, { state: 'error', reason })
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
    secrets: () => [token, uploadToken],
  }
}

function standing({ received, length }: Upload) {
  return {
    'tus-resumable': '1.0.0',
    'upload-offset': String(received.length),
    'upload-length': String(length),
  }
}

function keepWholeUnits(video: Upload, bytes: Buffer): void {
  const kept = bytes.subarray(0, bytes.length - (bytes.length % rule.unit))
  video.received = Buffer.concat([video.received, kept])
}
