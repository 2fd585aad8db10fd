import { rm } from 'node:fs/promises'
import { Decoder, Demuxer, Encoder, Muxer } from 'node-av/api'
import { AV_PKT_DATA_DISPLAYMATRIX, AVMEDIA_TYPE_VIDEO } from 'node-av/constants'
import { Codec, type Packet } from 'node-av/lib'
import { copyStreams } from './media-copy.ts'

export type Layout = 'faststart' | 'moov-at-end' | 'fragmented'

export interface PatternOptions {
  path: string
  /** Coded size in pixels, both even. */
  width: number
  height: number
  seconds: number
  layout: Layout
  audio?: boolean
  video?: boolean
  /** Clockwise turn a player has to apply, as phones write it: the display size is then turned too. */
  rotate?: 90 | 180 | 270
  /** Sample aspect ratio, for instance '4/3' for anamorphic pictures. */
  sampleAspect?: string
  /** Video bit rate, in FFmpeg's notation. */
  bitrate?: string
}

const MOVFLAGS: Record<Layout, Record<string, string>> = {
  faststart: { movflags: '+faststart' },
  'moov-at-end': {},
  fragmented: { movflags: '+frag_keyframe+empty_moov+default_base_moof' },
}

/** Writes an mp4 with a moving test pattern (H.264) and a 440 Hz tone (AAC), made from nothing. */
export async function writeTestPattern(options: PatternOptions): Promise<void> {
  if (!options.rotate) return encode(options)
  const upright = `${options.path}.upright.mp4`
  await encode({ ...options, path: upright })
  await turn(upright, options)
  await rm(upright)
}

async function encode(options: PatternOptions): Promise<void> {
  await using source = await Demuxer.open(graph(options), { format: 'lavfi' })
  await using muxer = await Muxer.open(options.path, { options: MOVFLAGS[options.layout] })
  const tracks = await Promise.all(
    source.streams.map(async (stream) => {
      const decoder = await Decoder.create(stream)
      const video = stream.codecpar.codecType === AVMEDIA_TYPE_VIDEO
      const encoder = await (video ? videoEncoder(decoder, options) : audioEncoder(decoder))
      return { decoder, encoder, index: muxer.addStream(encoder) }
    }),
  )
  type Track = (typeof tracks)[number]
  const write = async (track: Track, packets: Packet[]) => {
    for (const packet of packets) {
      await muxer.writePacket(packet, track.index)
      packet.free()
    }
  }
  const feed = async (track: Track, packet: Packet | null) => {
    for (const frame of await track.decoder.decodeAll(packet)) {
      await write(track, await track.encoder.encodeAll(frame))
      frame.free()
    }
  }
  for await (const packet of source.packets()) {
    if (!packet) break
    await feed(tracks[packet.streamIndex]!, packet)
    packet.free()
  }
  for (const track of tracks) {
    await feed(track, null)
    await write(track, await track.encoder.encodeAll(null))
    await muxer.writePacket(null, track.index)
  }
  for (const { decoder, encoder } of tracks) {
    decoder.close()
    encoder.close()
  }
}

function graph({ width, height, seconds, audio = true, video = true, sampleAspect = '1' }: PatternOptions) {
  const picture = `testsrc2=size=${width}x${height}:rate=25:duration=${seconds},format=yuv420p,setsar=${sampleAspect}`
  const tone = `sine=frequency=440:sample_rate=48000:duration=${seconds}`
  const chains = [...(video ? [picture] : []), ...(audio ? [tone] : [])]
  if (chains.length === 0) throw new Error('a file needs a video or an audio track')
  return chains.map((chain, index) => `${chain}[out${index}]`).join(';')
}

async function videoEncoder(decoder: Decoder, { bitrate = '300k' }: PatternOptions) {
  const common = { decoder, bitrate, gopSize: 25 }
  return Codec.findEncoderByName('libx264' as never)
    ? Encoder.create('libx264' as never, { ...common, options: { preset: 'ultrafast' } as never })
    : Encoder.create('mpeg4' as never, common)
}

async function audioEncoder(decoder: Decoder) {
  return Encoder.create('aac' as never, { decoder, bitrate: '64k', autoResample: true })
}

/** Copies the file and adds the display matrix, which encoders do not write. */
async function turn(upright: string, { path, layout, rotate = 90 }: PatternOptions): Promise<void> {
  await using source = await Demuxer.open(upright)
  source.video()?.codecpar.addCodedSideData(AV_PKT_DATA_DISPLAYMATRIX, matrix(rotate))
  await using muxer = await Muxer.open(path, { options: MOVFLAGS[layout] })
  await copyStreams(source, muxer)
}

/** The 3×3 matrix of ISO/IEC 14496-12, 8.3.2: a turn in 16.16 fixed point, the last column in 2.30. */
function matrix(degrees: number): Buffer {
  const angle = (degrees * Math.PI) / 180
  const cos = Math.round(Math.cos(angle)) * 0x10000
  const sin = Math.round(Math.sin(angle)) * 0x10000
  const cells = [cos, sin, 0, -sin, cos, 0, 0, 0, 0x40000000]
  return Buffer.from(Int32Array.from(cells).buffer)
}
