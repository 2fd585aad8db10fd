import { DatabaseSync } from 'node:sqlite'
import { newVideo, type Video } from '../../src/publication/video.ts'
import { openStore } from '../../src/store/sqlite.ts'
import { freshPath } from './processes.ts'

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

/** A database with these videos. @returns its `DATABASE_URL` */
export async function seed(videos: Iterable<Video>): Promise<string> {
  const url = `sqlite:${freshPath('seeded.db')}`
  await openStore(url).close()
  const db = new DatabaseSync(url.replace('sqlite:', ''))
  // One transaction for all: the store's own would be flushed to disk row by row.
  const insert = db.prepare('INSERT INTO videos (id, document) VALUES (?, ?)')
  db.exec('BEGIN')
  for (const video of videos) insert.run(video.id, JSON.stringify(video))
  db.exec('COMMIT')
  db.close()
  return url
}
