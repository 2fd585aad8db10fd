import { type Static, Type } from '@sinclair/typebox'
import { nullish, Url } from '../http/border.ts'

/** The shorter side of a video in pixels; 0 is audio only. */
export const Resolution = Type.Integer({ minimum: 0, maximum: 65_535 })

/** A video file as PeerTube lists it, for download or inside of a playlist. */
export const VideoFile = Type.Object({
  resolution: Type.Object({ id: Resolution }),
  fileUrl: nullish(Type.String()),
  width: nullish(Type.Number()),
  height: nullish(Type.Number()),
  hasAudio: Type.Optional(Type.Boolean()),
})

/** An HLS playlist with the renditions that are listed in it. */
export const Playlist = Type.Object({ playlistUrl: Url, files: Type.Array(VideoFile) })

/**
 * Returns the file of the best resolution, with its size in pixels. Before 6.1 a file has no width and height: then the
 * resolution's id is the shorter side, and without an aspect ratio 16:9 is assumed. A resolution of 0 is audio only.
 */
export function largestFile(files: Static<typeof VideoFile>[], aspectRatio: number | null | undefined) {
  const ratio = aspectRatio || 16 / 9
  const [best] = files
    .filter(({ resolution }) => resolution.id > 0)
    .sort((one, other) => other.resolution.id - one.resolution.id)
  if (!best) return undefined
  const { width, height, fileUrl, resolution } = best
  if (width && height && width > 0 && height > 0) return { width, height, fileUrl }
  const longer = even(resolution.id * Math.max(ratio, 1 / ratio))
  return ratio >= 1
    ? { width: longer, height: resolution.id, fileUrl }
    : { width: resolution.id, height: longer, fileUrl }
}

function even(pixels: number): number {
  return Math.round(pixels / 2) * 2
}
