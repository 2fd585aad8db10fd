import type { Video } from '../publication/video.ts'

/** Returns the video of a row, if there is one: SQLite has nothing but the document. */
export function parse(row: Record<string, unknown> | undefined): Video | undefined {
  if (!row) return undefined
  return videoFrom(row.document as string)
}

/** Returns the video of a document. */
export function videoFrom(document: string): Video {
  const video = JSON.parse(document) as Video
  // Rows of earlier versions have none of these.
  video.epoch ??= 0
  video.mayArrive ??= null
  video.undoAt ??= null
  video.claimedUntil ??= null
  video.hintedEpoch ??= null
  return video
}

/** Returns a row as the statement `claim` leaves it. @param until the claim's end */
export function claimed(row: Video, until: number): Video {
  const { version, epoch } = row
  return { ...row, nextCheckAt: until, claimedUntil: until, version: version + 1, epoch: epoch + 1 }
}
