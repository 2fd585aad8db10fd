import { isDeepStrictEqual } from 'node:util'
import { shownMetadata } from './metadata.ts'
import { isDeleted, type Video } from './video.ts'

/** Types of the events of a video. */
export const eventTypes = [
  'video.created',
  'video.uploaded',
  'video.upload-failed',
  'video.ready',
  'video.failed',
  'video.updated',
  'video.deleted',
] as const
export type EventType = (typeof eventTypes)[number]

/** The part of a video that the API shows. */
export type ShownVideo = Pick<Video, (typeof shownFields)[number]> & { slot: Pick<Video['slot'], 'videoId'> }

/** An event before the store has written it. */
export interface NewEvent {
  type: EventType
  /** The video after the change; of a deleted one, what it was before. */
  video: ShownVideo
}

/** An event in the store. */
export interface VideoEvent extends NewEvent {
  /** UUIDv7. */
  id: string
  /** Its place in the order in which readers get events: grows, with gaps, and never changes. */
  position: number
  /** In ms since the epoch, by the store's clock. */
  createdAt: number
}

const shownFields = [
  'id',
  'title',
  'description',
  'reference',
  'platform',
  'stage',
  'error',
  'bytesReceived',
  'bytesTotal',
  'progress',
  'info',
  'thumbnail',
  'createdAt',
  'updatedAt',
  'version',
] as const satisfies (keyof Video)[]

/** Fields that are measured again and again: a new value alone is not worth an event. */
const measured: readonly string[] = ['bytesReceived', 'updatedAt', 'version']
const comparedFields = shownFields.filter((name) => !measured.includes(name))

/**
 * Decides, purely, what a change of a row means to the back office.
 * @returns undefined when the change cannot be seen from outside, or only in what is measured
 */
export function eventOf(before: Video, after: Video): NewEvent | undefined {
  const [was, is] = [isVisible(before), isVisible(after)]
  if (was && !is) {
    const { version, updatedAt } = after
    return { type: 'video.deleted', video: { ...shown(before), version, updatedAt } }
  }
  if (!is) return undefined
  const type = was ? typeOfChange(before, after) : 'video.created'
  return type && { type, video: shown(after) }
}

function typeOfChange(before: Video, after: Video): EventType | undefined {
  if (before.stage === after.stage) return looksTheSame(before, after) ? undefined : 'video.updated'
  if (after.stage === 'ready') return 'video.ready'
  if (after.stage === 'failed') return 'video.failed'
  if (after.stage === 'processing') return 'video.uploaded'
  return before.stage === 'uploading' ? 'video.upload-failed' : 'video.updated'
}

function isVisible(video: Video): boolean {
  return video.stage !== 'provisioning' && !isDeleted(video)
}

function shown(video: Video): ShownVideo {
  const fields = Object.fromEntries(shownFields.map((name) => [name, video[name] ?? null]))
  return { ...fields, slot: { videoId: video.slot.videoId } } as ShownVideo
}

/** Every check of a video asks this, so what is the same object is not taken apart. */
function looksTheSame(before: Video, after: Video): boolean {
  if (before.slot.videoId !== after.slot.videoId) return false
  const changed = comparedFields.filter((name) => (before[name] ?? null) !== (after[name] ?? null))
  return changed.length === 0 || isDeepStrictEqual(visible(before, changed), visible(after, changed))
}

function visible(video: Video, names: readonly (keyof Video)[]) {
  const metadata = shownMetadata(video)
  return names.map((name) =>
    name === 'info' || name === 'thumbnail' ? metadata[name] : (video[name] ?? null),
  )
}
