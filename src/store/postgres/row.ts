import type { Video } from '../../publication/video.ts'
import { lookupKey } from './list.ts'
import type { Row } from './pool.ts'

/** Returns the video of a row, whose columns have the names of its fields. */
export function videoOf({ document, ...columns }: Row): Video {
  // Rows of earlier versions have no hint.
  return { hintedEpoch: null, ...document, ...columns } as Video
}

/** Returns the values of a row, in the order of the statements `insert` and `update`. */
export function valuesOf(video: Video): unknown[] {
  return Object.values(columnsOf(video))
}

/**
 * Returns the row of a video, in the order of the statements; its document as text. Columns are the fields that change at
 * every check, and those for searches. A claim alone writes `claimedUntil`.
 */
export function columnsOf(video: Video) {
  const { platform, stage, version, epoch, checks, claimedUntil: _, ...rest } = video
  const { nextCheckAt, checkedAt, bytesReceived, updatedAt, ...cold } = rest
  return {
    id: video.id,
    document: JSON.stringify(cold),
    platform,
    stage,
    reference: video.reference === null ? null : lookupKey(video.reference),
    version,
    epoch,
    next_check_at: nextCheckAt,
    checked_at: checkedAt,
    checks,
    bytes_received: bytesReceived,
    updated_at: updatedAt,
  }
}
