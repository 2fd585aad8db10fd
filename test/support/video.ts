import { newVideo, type Video } from '../../src/publication/video.ts'

/** A row as the store keeps it; `changes` say what matters to the test. */
export function aVideo(changes: Partial<Video> = {}): Video {
  return {
    ...newVideo({ title: 'Evening news' }, 'sandbox', 0, Date.now()),
    slot: { videoId: 'clip-1', handle: null },
    stage: 'awaiting-upload',
    nextCheckAt: null,
    ...changes,
  }
}
