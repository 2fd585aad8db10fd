import type { Demuxer, Muxer } from 'node-av/api'
import { AVMEDIA_TYPE_AUDIO, AVMEDIA_TYPE_VIDEO } from 'node-av/constants'

/**
 * Copies the pictures and the sound of `source` into `muxer` without re-encoding.
 * Resolves to the length in seconds, measured on the packets: what a fragmented file claims can be zero.
 */
export async function copyStreams(source: Demuxer, muxer: Muxer, signal?: AbortSignal): Promise<number> {
  const targets = new Map<number, number>()
  for (const type of [AVMEDIA_TYPE_VIDEO, AVMEDIA_TYPE_AUDIO]) {
    const stream = source.findBestStream(type)
    if (stream) targets.set(stream.index, muxer.addStream(stream))
  }
  let start = Number.POSITIVE_INFINITY
  let end = 0
  for await (const packet of source.packets()) {
    if (!packet) break
    signal?.throwIfAborted()
    const target = targets.get(packet.streamIndex)
    const { num, den } = source.getStream(packet.streamIndex)!.timeBase
    if (target !== undefined) {
      const at = (Number(packet.pts) * num) / den
      start = Math.min(start, at)
      end = Math.max(end, at + (Number(packet.duration) * num) / den)
      await muxer.writePacket(packet, target)
    }
    packet.free()
  }
  // Each stream must be ended, or the data that is queued for interleaving is lost.
  for (const target of targets.values()) await muxer.writePacket(null, target)
  return Math.max(0, end - start)
}
