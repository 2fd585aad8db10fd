import type { Video } from '../../publication/video.ts'
import { lookupKey } from './list.ts'
import type { Row } from './pool.ts'

/** Columns in addition to the document: fields that change at every check, and fields for searches. */
const hotFields: readonly string[] = [
  'platform',
  'stage',
  'version',
  'epoch',
  'nextCheckAt',
  'checkedAt',
  'checks',
  'bytesReceived',
  'updatedAt',
  // Written by claims alone.
  'claimedUntil',
]

/** Returns the video of a row, whose columns have the names of its fields. */
export function videoOf({ document, ...columns }: Row): Video {
  // Rows of earlier versions have no hint.
  return { hintedEpoch: null, ...document, ...columns } as Video
}

/** Returns the values of a row, in the order of the statements `insert` and `update`. */
export function valuesOf(video: Video): unknown[] {
  return Object.values(columnsOf(video))
}

/** Returns the row of a video, in the order of the statements; its document as text. */
export function columnsOf(video: Video) {
  const cold = Object.entries(video).filter(([name]) => !hotFields.includes(name))
  return {
    id: video.id,
    document: JSON.stringify(Object.fromEntries(cold)),
    platform: video.platform,
    stage: video.stage,
    reference: video.reference === null ? null : lookupKey(video.reference),
    version: video.version,
    epoch: video.epoch,
    next_check_at: video.nextCheckAt,
    checked_at: video.checkedAt,
    checks: video.checks,
    bytes_received: video.bytesReceived,
    updated_at: video.updatedAt,
  }
}
