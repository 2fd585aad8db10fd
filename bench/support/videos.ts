import { DatabaseSync } from 'node:sqlite'
import { v7 as uuidv7 } from 'uuid'
import type { Video } from '../../src/publication/video.ts'
import { openStore } from '../../src/store/sqlite.ts'
import { freshPath } from './processes.ts'

/** A row of a video in processing. */
export function pendingVideo(index: number, changes: Partial<Video> = {}): Video {
  const now = Date.now()
  return {
    id: uuidv7(),
    title: `Video ${index}`,
    description: 'One of many that the platform is busy with',
    reference: `cms-${index}`,
    platform: 'sandbox',
    slot: { videoId: `c${index}`, handle: `/ingest/${index}` },
    stage: 'processing',
    stageSince: now,
    error: null,
    bytesReceived: 1_000_000,
    bytesTotal: 1_000_000,
    lease: null,
    info: null,
    thumbnail: null,
    createdAt: now,
    updatedAt: now,
    checkedAt: null,
    nextCheckAt: null,
    checks: 20,
    version: 1,
    ...changes,
  }
}

/** A database with these videos. @returns its `DATABASE_URL` */
export function seed(videos: Iterable<Video>): string {
  const url = `sqlite:${freshPath('seeded.db')}`
  openStore(url).close()
  const db = new DatabaseSync(url.replace('sqlite:', ''))
  // One transaction for all: the store's own would be flushed to disk row by row.
  const insert = db.prepare('INSERT INTO videos (id, document) VALUES (?, ?)')
  db.exec('BEGIN')
  for (const video of videos) insert.run(video.id, JSON.stringify(video))
  db.exec('COMMIT')
  db.close()
  return url
}
