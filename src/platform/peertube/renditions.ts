import { type Static, Type } from '@sinclair/typebox'
import { Id, nullish, Time } from '../http/border.ts'
import type { PlatformHttp } from '../http/http.ts'
import { Playlist, Resolution, VideoFile } from './files.ts'

/** A video as far as it is made. */
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

/** So long after its publication a video is taken as it is: a plugin may leave renditions out. Milliseconds. */
const longestWait = 2 * 60 * 60 * 1000
/** Where PeerTube serves playlists that lie on its own disk: only those are published before they are complete. */
const ownPlaylists = '/static/'

/**
 * Whether the HLS playlist of a published video changes still. PeerTube publishes with the first rendition; each
 * further one gives the master playlist another name, and the earlier URL is dead.
 */
export async function hasPendingRenditions(
  http: PlatformHttp,
  { publishedAt, files, streamingPlaylists: [playlist] }: Static<typeof Progress>,
  signal: AbortSignal,
): Promise<boolean> {
  if (!playlist || Date.now() - Date.parse(publishedAt) > longestWait) return false
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
 * Whether a master playlist names every rendition that the API lists. One of audio alone has no `EXT-X-STREAM-INF` of
 * its own: from 7.0 on it is an `EXT-X-MEDIA` where the other renditions have no audio (`hls.splitAudioAndVideo`), and
 * left out where they have; before 7.0 it is a stream of 0x0 pixels.
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
 * Whether a playlist has the best resolution, every enabled one below, and sound if there is any. The uploaded file
 * is among the `files` until it has become a rendition itself. A resolution of 0 is sound only.
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
