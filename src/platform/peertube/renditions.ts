import { type Static, Type } from '@sinclair/typebox'
import { Id, nullish, Time } from '../http/border.ts'
import type { PlatformHttp } from '../http/http.ts'
import { Playlist, Resolution, VideoFile } from './files.ts'

/** A video and its renditions so far. */
export const Progress = Type.Object({
  uuid: nullish(Id),
  state: Type.Object({ id: Type.Integer({ minimum: 0, maximum: 1e6 }), label: Type.Optional(Type.String()) }),
  publishedAt: Time,
  files: Type.Array(VideoFile),
  streamingPlaylists: Type.Array(Playlist),
})
const Config = Type.Object({
  transcoding: Type.Object({ enabledResolutions: Type.Array(Resolution) }),
})

/** Time after its publication from which a video counts as complete: a plugin may omit renditions. Milliseconds. */
const longestWaitMs = 2 * 60 * 60 * 1000
/** Path of playlists on PeerTube's own disk: only these are published before they are complete. */
const ownPlaylists = '/static/'

/**
 * Whether the HLS playlist of a published video will still change. PeerTube publishes with the first rendition; each
 * further one renames the master playlist, and the earlier URL stops working.
 */
export async function hasPendingRenditions(
  http: PlatformHttp,
  { publishedAt, files, streamingPlaylists: [playlist] }: Static<typeof Progress>,
  signal: AbortSignal,
): Promise<boolean> {
  if (!playlist || Date.now() - Date.parse(publishedAt) > longestWaitMs) return false
  const call = { operation: 'status', method: 'GET', signal } as const
  // Read each time, because an administrator may change it.
  const { transcoding } = await http.json(Config, { ...call, url: '/api/v1/config' })
  if (!isPlaylistComplete(playlist.files, files, transcoding.enabledResolutions)) return true

  const { pathname } = new URL(playlist.playlistUrl, 'http://instance')
  if (!pathname.startsWith(ownPlaylists)) return false
  // A rendition is listed a moment before the master playlist is replaced by one that names it.
  const { status, body } = await http.send({ ...call, url: pathname, accept: [404] })
  return status === 404 || !namesEvery(playlist.files, body.toString('latin1'))
}

/**
 * Whether a master playlist names every rendition that the API lists. A rendition with only audio has no
 * `EXT-X-STREAM-INF` of its own: from 7.0 on it is an `EXT-X-MEDIA` if the other renditions have no audio
 * (`hls.splitAudioAndVideo`), and is omitted if they have; before 7.0 it is a stream of 0x0 pixels.
 */
export function namesEvery(renditions: Static<typeof VideoFile>[], master: string): boolean {
  const videos = renditions.filter(({ resolution }) => resolution.id > 0)
  const streams = master.match(/^#EXT-X-STREAM-INF(?!.*RESOLUTION=0x0)/gm)?.length ?? 0
  const split = videos.length < renditions.length && videos.some(({ hasAudio }) => hasAudio === false)
  return streams >= videos.length && (!split || /^#EXT-X-MEDIA:.*TYPE=AUDIO/m.test(master))
}

/** Whether a published video has only audio: PeerTube plays it, but it has no size or thumbnail. */
export function hasNoPicture({ files, streamingPlaylists }: Static<typeof Progress>): boolean {
  const all = [...files, ...streamingPlaylists.flatMap((playlist) => playlist.files)]
  return all.length > 0 && all.every(({ resolution }) => resolution.id === 0)
}

/**
 * Whether a playlist has the best resolution, every enabled one below it, and audio if there is any. The uploaded file
 * is among the `files` until it has become a rendition itself. A resolution of 0 is audio only.
 */
export function isPlaylistComplete(
  renditions: Static<typeof VideoFile>[],
  files: Static<typeof VideoFile>[],
  enabled: number[],
): boolean {
  const all = [...renditions, ...files]
  const sound = all.some(({ hasAudio }) => hasAudio)
  const best = Math.max(...all.map(({ resolution }) => resolution.id))
  const made = new Set(renditions.map(({ resolution }) => resolution.id))
  const wanted = [best, ...enabled.filter((id) => id < best && (id > 0 || sound))]
  return wanted.every((id) => made.has(id)) && (!sound || renditions.some(({ hasAudio }) => hasAudio))
}
