import { randomBytes } from 'node:crypto'
import { mux } from '../../../src/platform/mux.ts'
import { createKit, type Exchange, type PlatformDouble } from '../double.ts'

/** Shapes as in the vendor's SDK (`@mux/mux-node` 15, `resources/video/{uploads,assets}.d.ts`). */
interface Upload {
  id: string
  cors_origin: string
  status: string
  timeout: number
  url?: string
  asset_id?: string
  error?: { type: string; message: string }
  new_asset_settings: { passthrough: string; meta: { title: string } }
}
interface Asset {
  id: string
  created_at: string
  status: string
  upload_id: string
  passthrough: string
  duration?: number
  errors?: { type: string; messages: string[] }
  playback_ids: { id: string; policy: string }[]
  tracks?: { type: string; max_width?: number; max_height?: number; duration: number }[]
}

const tokenId = '2f4b-token-id'
const tokenSecret = 'Gq1/secret+of:mux'
const basic = Buffer.from(`${tokenId}:${tokenSecret}`).toString('base64')
const signature = 'sig-9f31c0'

/** Mux: its API on one origin, the bucket with its signed URLs on another. */
export async function startDouble(): Promise<PlatformDouble> {
  const kit = createKit()
  const uploads = new Map<string, Upload>()
  const assets = new Map<string, Asset>()
  const contents = new Map<string, Buffer>()
  let givenUrl: string | undefined
  const violate = (text: string) => void kit.violations.push(text)

  const bucket = await kit.listen({
    operations: (method) => (method === 'PUT' ? ['upload'] : []),
    async handle(exchange) {
      const { headers, url } = exchange
      const upload = uploads.get(url.pathname.slice('/uploads-bucket/'.length))
      if (headers.authorization) violate('our credentials went to the bucket')
      if (headers['transfer-encoding']) violate('the bucket takes no chunked encoding')
      if (!headers['content-length']) return exchange.answer(411)
      if (url.searchParams.get('Signature') !== signature) return exchange.answer(403, '<Error/>')
      if (upload?.status !== 'waiting') return exchange.answer(403, '<Error/>')
      const { bytes, complete } = await exchange.body()
      if (!complete) return
      // The asset is made a while after the bucket has answered; till then the upload says `waiting`.
      if (upload.status === 'waiting') contents.set(upload.id, bytes)
      exchange.answer(200)
    },
  })

  const api = await kit.listen({
    operations(method, { pathname }) {
      const [, kind, id, action] =
        /^\/video\/v1\/(uploads|assets)(?:\/([^/]+))?(?:\/(cancel))?$/.exec(pathname) ?? []
      if (kind === 'uploads' && !id)
        return method === 'POST' ? ['provision'] : method === 'GET' ? ['find'] : []
      if (kind === 'uploads' && action) return method === 'PUT' ? ['remove'] : []
      if (kind === 'uploads') return method === 'GET' ? ['status'] : []
      if (kind === 'assets' && id && !action && method === 'DELETE') return ['remove']
      return kind === 'assets' && id && method === 'GET' ? ['status', 'info', 'thumbnail'] : []
    },
    async handle(exchange) {
      const { method, url, headers } = exchange
      if (headers.authorization !== `Basic ${basic}`) {
        violate(`${method} ${url.pathname} without our credentials`)
        return refuse(exchange, 401, 'unauthorized')
      }
      const [kind, id, action] = url.pathname.split('/').slice(3)
      if (kind === 'uploads' && !id && method === 'POST') return create(exchange)
      if (kind === 'uploads' && !id) return exchange.answer(200, { data: [...uploads.values()].reverse() })
      const found = (kind === 'uploads' ? uploads : assets).get(id!)
      if (!found) return refuse(exchange, 404, 'not_found')
      if (method === 'DELETE') {
        assets.delete(id!)
        return exchange.answer(204)
      }
      if (action === 'cancel') {
        if (found.status !== 'waiting') return refuse(exchange, 400, 'invalid_parameters')
        found.status = 'cancelled'
      }
      exchange.answer(200, { data: found })
    },
  })

  async function create(exchange: Exchange) {
    const { cors_origin, timeout, new_asset_settings, ...others } = await exchange.json()
    const { playback_policies, passthrough, meta, video_quality, ...more } = new_asset_settings as Record<
      string,
      unknown
    >
    const { title, external_id } = meta as Record<string, string>
    const known =
      typeof cors_origin === 'string' &&
      Number.isInteger(timeout) &&
      Number(timeout) >= 60 &&
      Number(timeout) <= 604_800 &&
      String(playback_policies) === 'public' &&
      typeof passthrough === 'string' &&
      passthrough.length <= 255 &&
      [...(title ?? '')].length <= 512 &&
      [...(external_id ?? '')].length <= 128 &&
      ['undefined', 'basic', 'plus', 'premium'].includes(String(video_quality)) &&
      Object.keys({ ...others, ...more }).length === 0
    if (!known || exchange.headers['content-type'] !== 'application/json') {
      violate('parameters that Mux does not know')
      return refuse(exchange, 400, 'invalid_parameters')
    }
    const id = randomBytes(12).toString('base64url')
    const upload = {
      id,
      cors_origin: cors_origin as string,
      status: 'waiting',
      timeout: timeout as number,
      url: givenUrl ?? `${bucket}/uploads-bucket/${id}?Expires=1&Signature=${signature}`,
      new_asset_settings: new_asset_settings as Upload['new_asset_settings'],
    }
    uploads.set(id, upload)
    exchange.answer(201, { data: upload })
  }

  /** The newest upload of that title, the one that was used last. */
  function uploadOf(title: string): Upload {
    return [...uploads.values()].findLast(
      ({ new_asset_settings }) => new_asset_settings.meta.title === title,
    )!
  }

  /** The asset of an upload, made if there is none yet. */
  function assetOf(title: string): Asset {
    const upload = uploadOf(title)
    const existing = assets.get(upload.asset_id ?? '')
    if (existing) return existing
    const id = randomBytes(12).toString('base64url')
    const asset: Asset = {
      id,
      created_at: '1764000000',
      status: 'preparing',
      upload_id: upload.id,
      passthrough: upload.new_asset_settings.passthrough,
      playback_ids: [
        { id: `signed-${id}`, policy: 'signed' },
        { id: `public-${id}`, policy: 'public' },
      ],
    }
    assets.set(id, asset)
    Object.assign(upload, { status: 'asset_created', asset_id: id })
    delete upload.url
    return asset
  }

  const tracks = [
    { type: 'audio', duration: 23.86 },
    { type: 'video', max_width: 1_920, max_height: 1_080, duration: 23.85 },
  ]

  return {
    ...kit,
    definition: mux,
    variables: { MUX_TOKEN_ID: tokenId, MUX_TOKEN_SECRET: tokenSecret, MUX_BASE_URL: api },
    provisionsAtUpload: false,
    statusWords: [
      { word: 'upload waiting', expect: 'processing' },
      { word: 'upload errored', expect: 'failed' },
      { word: 'upload cancelled', expect: 'failed' },
      { word: 'upload timed_out', expect: 'failed' },
      { word: 'preparing', expect: 'processing' },
      { word: 'ready', expect: 'ready' },
      { word: 'errored', expect: 'failed' },
    ],
    unknownStatusWord: 'restoring',
    setStatus(title, word) {
      const [, status] = word.split('upload ')
      if (status) uploadOf(title).status = status
      else assetOf(title).status = word
    },
    finish: (title) => void Object.assign(assetOf(title), { status: 'ready', duration: 23.857, tracks }),
    finishWithoutMetadata(title) {
      const asset = Object.assign(assetOf(title), { status: 'ready' })
      delete asset.duration
      delete asset.tracks
    },
    failProcessing(title) {
      const messages = ['The input does not seem to be a video.', 'No duration.']
      Object.assign(assetOf(title), { status: 'errored', errors: { type: 'invalid_input', messages } })
      return messages.join('; ')
    },
    content: (title) => contents.get(uploadOf(title).id),
    leftovers: () => assets.size + [...uploads.values()].filter(({ status }) => status === 'waiting').length,
    expected(title) {
      const playback = `public-${uploadOf(title).asset_id}`
      return {
        info: {
          launchUrl: `https://stream.mux.com/${playback}.m3u8`,
          mimeType: 'application/vnd.apple.mpegurl',
          width: 1_920,
          height: 1_080,
          duration: 23.857,
        },
        thumbnail: {
          url: `https://image.mux.com/${playback}/thumbnail.jpg?width=1280&height=720&fit_mode=crop`,
          mimeType: 'image/jpeg',
          width: 1_280,
          height: 720,
        },
      }
    },
    giveUploadUrl(url) {
      givenUrl = url
    },
    secrets: () => [tokenSecret, basic, signature],
  }
}

function refuse(exchange: Exchange, status: number, type: string): void {
  exchange.answer(status, { error: { type, messages: ['refused'] } })
}
