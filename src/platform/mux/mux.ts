import { GatewayError } from '../../errors.ts'
import { pathSegment, requireSame, unknownStates } from '../http/border.ts'
import { createPlatformHttp } from '../http/http.ts'
import { fixedAuthorization } from '../http/token-cache.ts'
import {
  type Call,
  type Content,
  ignoreMissing,
  type Slot,
  type VideoDraft,
  VideoMissingError,
  type VideoPlatform,
} from '../platform.ts'
import type { PlatformDefinition, PlatformTools } from '../tools.ts'
import { uploadByteRanges } from '../upload/byte-ranges.ts'
import { muxHints } from './hints.ts'
import {
  type Asset,
  AssetResponse,
  infoOf,
  OriginResponse,
  statusOfAsset,
  statusOfUpload,
  thumbnailOf,
  UploadList,
  UploadResponse,
} from './shapes.ts'
import { type Variables, variables } from './variables.ts'

/**
 * Adapter of Mux (https://www.mux.com/docs/api-reference/video). A video has two ids in Mux: that of a direct upload,
 * from the beginning, and that of the asset that Mux creates from the bytes. The slot's `videoId` is the asset's id,
 * null until there is one; its `handle` contains the upload's id.
 */
export const mux = {
  name: 'mux',
  variables,
  create: createMux,
} satisfies PlatformDefinition

/** The slot's handle, as JSON: the upload's id and progress. */
interface Handle {
  upload: string
  stage: 'fresh' | 'started' | 'sent'
}

/** Hosts of signed upload URLs: a Google Cloud Storage bucket, or `direct-uploads.REGION.production.mux.com`. */
const uploadHosts = ['storage.googleapis.com', '*.mux.com']
/** Chunk size for content of unknown size, in bytes: a multiple of 256 KiB. Each upload holds one chunk in memory. */
const chunkSize = 8 * 2 ** 20
/** Lifetime of an upload URL in seconds, the longest possible. An expired URL is replaced by a new one. */
const uploadTimeoutS = 604_800

function createMux(variables: Variables, tools: PlatformTools): VideoPlatform {
  const name = 'mux'
  const { MUX_TOKEN_ID, MUX_TOKEN_SECRET, MUX_VIDEO_QUALITY, MUX_BASE_URL: baseUrl } = variables
  const credentials = Buffer.from(`${MUX_TOKEN_ID}:${MUX_TOKEN_SECRET}`).toString('base64')
  const authorization = fixedAuthorization(`Basic ${credentials}`)
  const http = createPlatformHttp({ name, baseUrl, authorization, uploadHosts, tools })
  const uploads = 'video/v1/uploads'
  const unknown = unknownStates(name, tools.log)

  return {
    name,
    account: new URL(baseUrl).hostname,
    settles: tools.settles,
    lengthRequired: true,
    acceptsMaxSize: () => true,
    hints: muxHints(variables.MUX_WEBHOOK_SECRET),

    async provision(draft, call) {
      const { id } = await createUpload(draft, call)
      return slotOf({ upload: id, stage: 'fresh' })
    },

    /** Searches only the newest uploads; an older unused one expires on its own. */
    async find({ id }, { signal }) {
      const url = `${uploads}?limit=100`
      const { data } = await http.json(UploadList, { operation: 'find', method: 'GET', url, signal })
      return data
        .filter((upload) => upload.new_asset_settings?.passthrough === id)
        .map((upload) => slotOf({ upload: upload.id, stage: 'fresh' }))
    },

    isSame: (one, other) => handleOf(one).upload === handleOf(other).upload,

    async upload(slot, draft, content, call) {
      try {
        const { id, url } = await openUpload(slot, draft, call)
        await call.keep(slotOf({ upload: id, stage: 'started' }))
        await send(url ?? '', content, call)
        await call.keep(slotOf({ upload: id, stage: 'sent' }))
      } catch (error) {
        content.stream.destroy()
        throw error
      }
    },

    async status(slot, call) {
      let { videoId } = slot
      if (videoId === null) {
        const { upload: id, stage } = handleOf(slot)
        const upload = await findUpload('status', id, call)
        if (upload.status !== 'asset_created')
          return statusOfUpload(upload, stage === 'sent') ?? unknown(upload.status)
        videoId = upload.asset_id ?? null
        if (videoId === null)
          throw new GatewayError('platform-protocol-error', `${name} returned no id for the asset`)
      }
      const known = { ...slot, videoId }
      const answer = findAsset('status', known, call)
      // The id is kept even if Mux cannot be asked for the asset now, but not if the asset is another upload's.
      const keep = async (error?: unknown) => {
        if (!isForeign(error)) await call.keep(known)
      }
      if (slot.videoId === null) await answer.then(() => keep(), keep)
      const asset = await answer
      return statusOfAsset(asset) ?? unknown(asset.status)
    },

    info: async (slot, call) => infoOf(await findAsset('info', slot, call)),
    thumbnail: async (slot, call) => thumbnailOf(await findAsset('thumbnail', slot, call)),
    remove: discard,

    async checkCredentials(signal) {
      const url = `${uploads}?limit=1`
      await http.json(UploadList, { operation: 'credentials', method: 'GET', url, signal })
    },

    close: http.close,
  }

  /** Sends the content in one request if its size is known: the upload URL accepts no chunked transfer coding. */
  async function send(url: string, content: Content, { signal }: Call): Promise<void> {
    if (content.size === null)
      return uploadByteRanges(name, http, url, content, { ...tools.chunks, chunkSize, signal })
    await http.send({
      operation: 'upload',
      method: 'PUT',
      url: http.uploadUrl(url),
      headers: { 'content-type': 'video/mp4' },
      body: content.stream,
      length: content.size,
      authorized: false,
      signal,
    })
  }

  async function createUpload({ id, title }: VideoDraft, { signal }: Call) {
    const json = {
      // Required by the API for uploads from browsers; no browser gets this URL.
      cors_origin: 'https://video-gateway.invalid',
      timeout: uploadTimeoutS,
      new_asset_settings: {
        playback_policies: ['public'],
        passthrough: id,
        meta: { title, external_id: id },
        ...(MUX_VIDEO_QUALITY && { video_quality: MUX_VIDEO_QUALITY }),
      },
    }
    const request = { operation: 'provision', method: 'POST', url: uploads, json, signal } as const
    const { data } = await http.json(UploadResponse, request)
    requireSame(name, id, data.new_asset_settings?.passthrough)
    return data
  }

  async function findUpload(operation: string, id: string, { signal }: Call) {
    const url = `${uploads}/${pathSegment(name, id)}`
    const { data } = await http.json(UploadResponse, { operation, method: 'GET', url, signal })
    requireSame(name, id, data.id)
    return data
  }

  /** @throws `platform-protocol-error` for another asset, and for one that was made of another upload */
  async function findAsset(operation: string, slot: Slot, { signal }: Call) {
    const url = assetPath(slot.videoId)
    const { data } = await http.json(AssetResponse, { operation, method: 'GET', url, signal })
    requireOwn(slot, data)
    return data
  }

  function requireOwn(slot: Slot, asset: Pick<Asset, 'id' | 'upload_id'>): void {
    requireSame(name, slot.videoId, asset.id)
    if (slot.handle !== null) requireSame(name, handleOf(slot).upload, asset.upload_id)
  }

  function assetPath(videoId: string | null): string {
    return `video/v1/assets/${pathSegment(name, videoId)}`
  }

  /**
   * Returns the slot's upload if it is unused and still valid, else a new one. An interrupted upload is not used again:
   * the rest of its bytes may still arrive, and become an asset.
   */
  async function openUpload(slot: Slot, draft: VideoDraft, call: Call) {
    const { upload: id, stage } = handleOf(slot)
    if (stage === 'fresh' && slot.videoId === null) {
      const upload = await findUpload('upload', id, call).catch(ignoreMissing)
      if (upload?.status === 'waiting') return upload
    }
    await discard(slot, call).catch(ignoreMissing)
    await call.creating()
    return createUpload(draft, call)
  }

  /** Deletes the asset; before there is one, cancels the upload, which is possible only while it waits for bytes. */
  async function discard(slot: Slot, call: Call): Promise<void> {
    const { signal } = call
    const operation = 'remove'
    let { videoId } = slot
    if (videoId === null) {
      const upload = await findUpload(operation, handleOf(slot).upload, call)
      if (upload.status === 'waiting') {
        // If it becomes an asset at this moment, Mux rejects the request, and the next attempt finds the asset.
        const url = `${uploads}/${upload.id}/cancel`
        await http.send({ operation, method: 'PUT', url, idempotent: true, signal })
        return
      }
      videoId = upload.asset_id ?? null
    }
    if (videoId === null) return
    // An asset of another upload must not be deleted.
    const url = assetPath(videoId)
    const { data } = await http.json(OriginResponse, { operation, method: 'GET', url, signal })
    requireOwn({ ...slot, videoId }, data)
    await http.send({ operation, method: 'DELETE', url, signal })
  }

  function handleOf({ handle }: Slot): Handle {
    if (handle === null) throw new VideoMissingError(name)
    return JSON.parse(handle)
  }
}

function slotOf(handle: Handle): Slot {
  return { videoId: null, handle: JSON.stringify(handle) }
}

function isForeign(error: unknown): boolean {
  return error instanceof GatewayError && error.code === 'platform-protocol-error'
}
