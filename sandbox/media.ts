import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Decoder, Demuxer, Encoder, FilterAPI, Muxer } from 'node-av/api'
import { AV_DISPOSITION_ATTACHED_PIC, AV_LOG_FATAL, AV_PKT_DATA_DISPLAYMATRIX } from 'node-av/constants'
import { type Frame, Log, type Stream } from 'node-av/lib'
import { Fault } from './fault.ts'
import { copyStreams } from './media-copy.ts'

/** Properties of a finished clip; sizes in pixels as displayed, `length_ms` in ms. */
export interface Facts {
  frame: { w: number; h: number }
  length_ms: number
  poster: { w: number; h: number }
}

export const POSTER = 'poster.jpg'
export const PLAYLIST = 'playlist.m3u8'
const POSTER_WIDTH = 640

// Without the lists, an upload could be a playlist that makes the sandbox read other files or fetch from the network.
const ONLY_FILES = {
  protocol_whitelist: 'file',
  format_whitelist: 'mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts',
}

// The library prints errors to stderr; the clip's failure already contains them.
Log.setLevel(AV_LOG_FATAL)

/**
 * Turns the uploaded file into a poster and an HLS playlist in `directory`.
 * Throws a Fault: `not_a_video`, `no_video_track` or `unplayable`.
 */
export async function processMedia(
  file: string,
  directory: string,
  { signal, progress }: { signal: AbortSignal; progress: (percent: number) => void },
): Promise<Facts> {
  await using source = await open(file)
  const stream = source.video()
  // Cover art of an audio file also counts as a track, but is not a video.
  if (!stream || stream.hasDisposition(AV_DISPOSITION_ATTACHED_PIC))
    throw new Fault(422, 'no_video_track', 'the file has no video track')
  const frame = displaySize(stream)
  progress(20)
  const poster = await unplayableOnError(writePoster(source, stream, frame, join(directory, POSTER)))
  signal.throwIfAborted()
  progress(50)
  const copied = await unplayableOnError(writeHls(file, directory, signal))
  progress(95)
  return { frame, length_ms: Math.round((source.duration || copied) * 1000), poster }
}

/** Writes a poster of the test pattern, for clips whose bytes were discarded. */
export async function writePretendedPoster(directory: string): Promise<Facts['poster']> {
  await using source = await Demuxer.open('testsrc2=size=640x360:rate=25:duration=1', { format: 'lavfi' })
  return await writePoster(source, source.video()!, { w: 640, h: 360 }, join(directory, POSTER))
}

async function open(file: string): Promise<Demuxer> {
  try {
    return await Demuxer.open(file, { options: ONLY_FILES })
  } catch {
    throw new Fault(422, 'not_a_video', 'the file is not a readable video')
  }
}

async function unplayableOnError<T>(work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    if (error instanceof Error && error.name === 'AbortError') throw error
    throw new Fault(422, 'unplayable', `the file cannot be decoded: ${(error as Error).message}`)
  }
}

/** Square pixels, and turned as the display matrix says: a phone's upright video comes out upright. */
function displaySize(stream: Stream): { w: number; h: number } {
  const { width, height } = stream.codecpar
  const { num, den } = stream.sampleAspectRatio
  const w = num > 0 && den > 0 ? Math.round((width * num) / den) : width
  return turns(stream) % 2 ? { w: height, h: w } : { w, h: height }
}

/** Clockwise quarter turns, from the display matrix (ISO/IEC 14496-12, 8.3.2) of the stream. */
function turns(stream: Stream): number {
  const matrix = stream.codecpar.getCodedSideData(AV_PKT_DATA_DISPLAYMATRIX)
  if (!matrix) return 0
  const angle = Math.atan2(matrix.readInt32LE(4), matrix.readInt32LE(0))
  return (Math.round(angle / (Math.PI / 2)) + 4) % 4
}

async function writePoster(source: Demuxer, stream: Stream, shown: Facts['frame'], path: string) {
  const w = Math.min(POSTER_WIDTH, shown.w)
  const h = Math.max(1, Math.round((shown.h * w) / shown.w))
  const turn = ['', 'transpose=clock,', 'hflip,vflip,', 'transpose=cclock,'][turns(stream)]
  using decoder = await Decoder.create(stream)
  using filter = FilterAPI.create(`${turn}scale=${w}:${h},setsar=1,format=yuvj420p`)
  const decoded = await firstFrame(source, stream, decoder)
  const [picture] = await filter.processAll(decoded)
  decoded.free()
  if (!picture) throw new Error('no picture')
  await writeFile(path, await Encoder.encodeOne('mjpeg' as never, picture))
  picture.free()
  return { w, h }
}

async function firstFrame(source: Demuxer, stream: Stream, decoder: Decoder): Promise<Frame> {
  for await (const packet of source.packets(stream.index)) {
    const [frame, ...others] = await decoder.decodeAll(packet)
    packet?.free()
    for (const other of others) other.free()
    if (frame) return frame
    if (!packet) break
  }
  throw new Error('no picture')
}

/** Fragmented MP4 segments, since these take every codec as it is and keep the display matrix. */
async function writeHls(file: string, directory: string, signal: AbortSignal): Promise<number> {
  await using source = await Demuxer.open(file, { options: ONLY_FILES })
  await using muxer = await Muxer.open(join(directory, PLAYLIST), {
    format: 'hls',
    options: {
      hls_time: 2,
      hls_playlist_type: 'vod',
      hls_segment_type: 'fmp4',
      hls_fmp4_init_filename: 'init.mp4',
      hls_segment_filename: join(directory, 'segment_%d.m4s'),
    },
  })
  // Awaited here, or the files would be closed under its feet.
  return await copyStreams(source, muxer, signal)
}
