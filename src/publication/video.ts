import type { Slot, Thumbnail, VideoInfo } from '../platform/platform.ts'

/** The precise state. The first and the last two are the gateway's own business and are never shown. */
export type Stage =
  | 'provisioning'
  | 'awaiting-upload'
  | 'uploading'
  | 'processing'
  | 'ready'
  | 'failed'
  | 'deleting'
  | 'deleted'

/** The stable three that the back office relies on. */
export type Status = 'pending' | 'ready' | 'error'

/** One publication: a row of the store. Times are milliseconds since the epoch, sizes bytes. */
export interface Video {
  id: string
  title: string
  description: string | null
  reference: string | null
  platform: string
  slot: Slot
  stage: Stage
  /** When the stage was entered. */
  stageSince: number
  error: { code: string; message: string } | null
  bytesReceived: number
  bytesTotal: number | null
  /** Names the upload under way, so that a stale one cannot change the row. */
  lease: string | null
  info: VideoInfo | null
  thumbnail: Thumbnail | null
  createdAt: number
  updatedAt: number
  checkedAt: number | null
  /** When the poller is to look at the row; null when nothing is to be done. For an upload: its lease's end. */
  nextCheckAt: number | null
  /** How many checks since the stage was entered; drives the back-off. */
  checks: number
  /** Counts the changes; the compare-and-set compares it. */
  version: number
}

/** @returns the stable status behind a stage */
export function statusOf(stage: Stage): Status {
  if (stage === 'ready') return 'ready'
  return stage === 'failed' ? 'error' : 'pending'
}

/** Stages of a video that the back office can see, by status. */
export const visibleStages: Record<Status, readonly Stage[]> = {
  pending: ['awaiting-upload', 'uploading', 'processing'],
  ready: ['ready'],
  error: ['failed'],
}
