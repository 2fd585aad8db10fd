import { newVideo, type Video } from '../../src/publication/video.ts'

/** A row of a video in processing. */
export function pendingVideo(index: number, changes: Partial<Video> = {}): Video {
  const publication = {
    title: `Video ${index}`,
    description: 'One of many that the platform is busy with',
    reference: `cms-${index}`,
  }
  return {
    ...newVideo(publication, 'sandbox', 0, Date.now()),
    slot: { videoId: `c${index}`, handle: null },
    stage: 'processing',
    bytesReceived: 1_000_000,
    bytesTotal: 1_000_000,
    nextCheckAt: null,
    checks: 20,
    ...changes,
  }
}
