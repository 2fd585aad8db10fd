import { v7 as uuidv7 } from 'uuid'
import type { Video } from '../../src/publication/video.ts'

/** A row as the store keeps it; `changes` say what matters to the test. */
export function aVideo(changes: Partial<Video> = {}): Video {
  const now = Date.now()
  return {
    id: uuidv7(),
    title: 'Evening news',
    description: null,
    reference: null,
    platform: 'sandbox',
    slot: { videoId: 'clip-1', handle: 'https://platform.example/put' },
    stage: 'awaiting-upload',
    stageSince: now,
    error: null,
    bytesReceived: 0,
    bytesTotal: null,
    lease: null,
    info: null,
    thumbnail: null,
    createdAt: now,
    updatedAt: now,
    checkedAt: null,
    nextCheckAt: null,
    checks: 0,
    version: 1,
    ...changes,
  }
}
