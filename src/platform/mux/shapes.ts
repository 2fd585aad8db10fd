import { type Static, Type } from '@sinclair/typebox'
import { GatewayError } from '../../errors.ts'
import { failedBecause, fits, Id, nullish, Pixels, processing, Seconds, Word } from '../http/border.ts'
import type { ProcessingStatus, Thumbnail, VideoInfo } from '../platform.ts'

const Text = nullish(Type.String())
/** A number of a video, which is judged once the video is ready: till then it is missing, null or -1. */
const Measure = nullish(Type.Number())

/** A direct upload, as Mux shows it. `asset_id` is there once the status is `asset_created`. */
export const Upload = Type.Object({
  id: Id,
  status: Word,
  url: Text,
  asset_id: nullish(Id),
  error: Type.Optional(Type.Union([Type.Object({ type: Text, message: Text }), Type.Null()])),
  new_asset_settings: Type.Optional(Type.Object({ passthrough: Text })),
})
export const UploadResponse = Type.Object({ data: Upload })
export const UploadList = Type.Object({ data: Type.Array(Upload) })
export type Upload = Static<typeof Upload>

/** An asset, as Mux shows it. Its metadata is complete only once the status is `ready`. */
export const Asset = Type.Object({
  id: Id,
  upload_id: nullish(Id),
  status: Word,
  duration: Measure,
  /** In percent; −1 if Mux does not report it. */
  progress: Type.Optional(Type.Object({ progress: Type.Unknown() })),
  errors: Type.Optional(Type.Object({ type: Text, messages: Type.Optional(Type.Array(Type.String())) })),
  playback_ids: Type.Optional(Type.Array(Type.Object({ id: Id, policy: Word }))),
  tracks: Type.Optional(Type.Array(Type.Object({ type: Word, max_width: Measure, max_height: Measure }))),
})
/** The part of an asset that is read before it is deleted. */
export const OriginResponse = Type.Object({ data: Type.Pick(Asset, ['id', 'upload_id']) })
export const AssetResponse = Type.Object({ data: Asset })
export type Asset = Static<typeof Asset>

/** Longest edge of a thumbnail, in pixels. */
const thumbnailEdge = 1_280

/**
 * Returns the meaning of an upload's status while there is no asset; undefined for an unknown status.
 * @param sent whether every byte was accepted: the asset appears some time after that
 */
export function statusOfUpload({ status, error }: Upload, sent: boolean): ProcessingStatus | undefined {
  switch (status) {
    case 'waiting':
      return { state: sent ? 'processing' : 'awaiting-upload' }
    case 'cancelled':
    case 'timed_out':
      if (!sent) return { state: 'awaiting-upload' }
      return { state: 'failed', message: 'The platform canceled the upload or let it expire.' }
    case 'errored':
      return failedBecause(error?.message || error?.type)
    default:
      return undefined
  }
}

/** Returns the meaning of an asset's status; undefined for an unknown status. */
export function statusOfAsset({ status, errors, tracks, progress }: Asset): ProcessingStatus | undefined {
  switch (status) {
    case 'preparing':
      return processing(progress?.progress)
    case 'ready':
      // An MP4 may have only an audio track: then there will never be a size or a thumbnail.
      if (tracks?.length && tracks.every(({ type }) => type !== 'video'))
        return { state: 'failed', message: 'The file has no video track.' }
      return { state: 'ready' }
    case 'errored':
      return failedBecause(errors?.messages?.join('; ') || errors?.type)
    default:
      return undefined
  }
}

/** @throws GatewayError while the metadata is not complete */
export function infoOf(asset: Asset): VideoInfo {
  const { playbackId, width, height, duration } = metadataOf(asset)
  const launchUrl = `https://stream.mux.com/${playbackId}.m3u8`
  return { launchUrl, mimeType: 'application/vnd.apple.mpegurl', width, height, duration }
}

/**
 * The size is the caller's choice (https://www.mux.com/docs/guides/get-images-from-a-video); with `crop` the image
 * has it exactly, where the default mode may round an edge otherwise.
 * @throws GatewayError while the metadata is not complete
 */
export function thumbnailOf(asset: Asset): Thumbnail {
  const { playbackId, ...video } = metadataOf(asset)
  const scale = Math.min(1, thumbnailEdge / Math.max(video.width, video.height))
  const width = Math.max(1, Math.round(video.width * scale))
  const height = Math.max(1, Math.round(video.height * scale))
  const query = `width=${width}&height=${height}&fit_mode=crop`
  const url = `https://image.mux.com/${playbackId}/thumbnail.jpg?${query}`
  return { url, mimeType: 'image/jpeg', width, height }
}

function metadataOf({ playback_ids = [], tracks = [], duration }: Asset) {
  const playbackId = playback_ids.find(({ policy }) => policy === 'public')?.id
  const track = tracks.find(({ type }) => type === 'video')
  const { max_width: width, max_height: height } = track ?? {}
  if (!playbackId || !fits(Pixels, width) || !fits(Pixels, height) || !fits(Seconds, duration))
    throw new GatewayError('platform-protocol-error', 'mux reports ready with incomplete metadata')
  return { playbackId, width, height, duration }
}
