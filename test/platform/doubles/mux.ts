import { randomBytes } from 'node:crypto'
import type { Asset, AssetOptions } from '@mux/mux-node/resources/video/assets'
import type { Upload as MuxUpload, UploadCreateParams } from '@mux/mux-node/resources/video/uploads'
import { mux } from '../../../src/platform/mux/mux.ts'
import type { ProcessingStatus } from '../../../src/platform/platform.ts'
import { createKit, type Exchange, type PlatformDouble } from '../double.ts'
import { createByteRanges } from './byte-ranges.ts'

type Upload = MuxUpload & { new_asset_settings: AssetOptions }

/** The words of an upload but `asset_created`, for then the asset's count, and the words of an asset. */
const words = {
  'upload waiting': 'processing',
  'upload errored': 'failed',
  'upload cancelled': 'failed',
  'upload timed_out': 'failed',
  preparing: 'processing',
  ready: 'ready',
  errored: 'failed',
} satisfies Record<
  `upload ${Exclude<Upload['status'], 'asset_created'>}` | Asset['status'],
  ProcessingStatus['state']
>
const qualities: Record<NonNullable<AssetOptions['video_quality']>, true> = {
  basic: true,
  plus: true,
  premium: true,
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
      if (headers['content-range']) return ranges.handle(exchange, upload.id)
      const { bytes, complete } = await exchange.body()
      if (!complete) return
      // The asset is made a while after the bucket has answered; till then the upload says `waiting`.
      if (upload.status === 'waiting') contents.set(upload.id, bytes)
      exchange.answer(200)
    },
    cut: (exchange, bytes) =>
      ranges.cut(exchange, exchange.url.pathname.slice('/uploads-bucket/'.length), bytes),
  })
  const ranges = createByteRanges({ violate, finished: (id, bytes) => void contents.set(id, bytes) })

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
    const { cors_origin, timeout, new_asset_settings, ...others }: Partial<UploadCreateParams> =
      await exchange.json()
    const { playback_policies, passthrough, meta, video_quality, ...more } = new_asset_settings ?? {}
    const { title, external_id, ...rest } = meta ?? {}
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
      (video_quality === undefined || qualities[video_quality]) &&
      Object.keys({ ...others, ...more, ...rest }).length === 0
    if (!known || exchange.headers['content-type'] !== 'application/json') {
      violate('parameters that Mux does not know')
      return refuse(exchange, 400, 'invalid_parameters')
    }
    const id = randomBytes(12).toString('base64url')
    const upload: Upload = {
      id,
      cors_origin,
      status: 'waiting',
      timeout: Number(timeout),
      url: givenUrl ?? `${bucket}/uploads-bucket/${id}?Expires=1&Signature=${signature}`,
      new_asset_settings: new_asset_settings ?? {},
    }
    uploads.set(id, upload)
    exchange.answer(201, { data: upload })
  }

  /** The newest upload of that title, the one that was used last. */
  function uploadOf(title: string): Upload {
    return [...uploads.values()].findLast(
      ({ new_asset_settings }) => new_asset_settings.meta?.title === title,
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
      progress: { state: 'ingesting', progress: 0 },
      encoding_tier: 'smart',
      master_access: 'none',
      max_resolution_tier: '1080p',
      upload_id: upload.id,
      passthrough: upload.new_asset_settings.passthrough ?? '',
      playback_ids: [
        { id: `signed-${id}`, policy: 'signed' },
        { id: `public-${id}`, policy: 'public' },
      ],
    }
    assets.set(id, asset)
    upload.status = 'asset_created'
    upload.asset_id = id
    delete upload.url
    return asset
  }

  const change = (title: string, changes: Partial<Asset>) => void Object.assign(assetOf(title), changes)

  const tracks: Asset['tracks'] = [
    { type: 'audio', duration: 23.86 },
    { type: 'video', max_width: 1_920, max_height: 1_080, duration: 23.85 },
  ]

  return {
    ...kit,
    definition: mux,
    variables: { MUX_TOKEN_ID: tokenId, MUX_TOKEN_SECRET: tokenSecret, MUX_BASE_URL: api },
    provisionsAtUpload: false,
    statusWords: words,
    unknownStatusWord: 'restoring',
    setStatus(title, word) {
      const [, status] = word.split('upload ')
      if (status) uploadOf(title).status = status as Upload['status']
      else assetOf(title).status = word as Asset['status']
    },
    finish: (title) => change(title, { status: 'ready', duration: 23.857, tracks }),
    /** A playback id is deleted and another one made (https://www.mux.com/docs/api-reference/video/assets). */
    rename(title) {
      const id = `public-${randomBytes(6).toString('hex')}`
      change(title, { playback_ids: [{ id, policy: 'public' }] })
    },
    finishWithoutMetadata(title) {
      change(title, { status: 'ready' })
      const asset = assetOf(title)
      delete asset.duration
      delete asset.tracks
    },
    failProcessing(title) {
      const messages = ['The input does not seem to be a video.', 'No duration.']
      change(title, { status: 'errored', errors: { type: 'invalid_input', messages } })
      return messages.join('; ')
    },
    content: (title) => contents.get(uploadOf(title).id),
    leftovers: () => assets.size + [...uploads.values()].filter(({ status }) => status === 'waiting').length,
    expected(title) {
      const playback = assetOf(title).playback_ids?.find(({ policy }) => policy === 'public')?.id
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
