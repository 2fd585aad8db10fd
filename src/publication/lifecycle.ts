import { GatewayError, type ProblemCode } from '../errors.ts'
import type { Stage, Video } from './video.ts'

/**
 * The whole life of a video: what may happen, from where, and where it leads. What `takes` begins new work: it takes
 * hold of the row, and whatever went on before can write no more.
 */
export const transitions = {
  /** The platform gave a slot. */
  provisioned: { from: ['provisioning'], to: 'awaiting-upload' },
  /** The platform refused; nothing is there. */
  'provisioning-rejected': { from: ['provisioning'], to: 'deleted' },
  'upload-started': { from: ['awaiting-upload'], to: 'uploading', takes: true },
  /** The upload failed or died; the slot takes another one. */
  'upload-interrupted': { from: ['uploading'], to: 'awaiting-upload' },
  'upload-completed': { from: ['uploading'], to: 'processing' },
  processed: { from: ['processing'], to: 'ready' },
  'processing-failed': { from: ['processing'], to: 'failed' },
  /** The platform no longer has a video that was ready. */
  vanished: { from: ['ready'], to: 'failed' },
  'deletion-requested': {
    from: ['provisioning', 'awaiting-upload', 'uploading', 'processing', 'ready', 'failed', 'deleting'],
    to: 'deleting',
    takes: true,
  },
  'deletion-completed': { from: ['deleting'], to: 'deleted' },
} as const satisfies Record<string, { from: readonly Stage[]; to: Stage; takes?: true }>

export type TransitionName = keyof typeof transitions

/** What a caller hears who asks for a transition that the stage does not allow. */
const errorByStage: Record<Stage, ProblemCode> = {
  provisioning: 'video-not-found',
  'awaiting-upload': 'video-not-ready',
  uploading: 'upload-in-progress',
  processing: 'content-already-uploaded',
  ready: 'content-already-uploaded',
  failed: 'content-already-uploaded',
  deleting: 'video-deleted',
  deleted: 'video-deleted',
}

/** Where the code alone would mislead: a video may have failed before it had any content. */
const details: Partial<Record<Stage, string>> = {
  failed: 'The video failed and accepts no content. Delete it and create a new one.',
}

/**
 * Applies a transition, purely: returns the changed video and leaves the given one alone.
 * What belonged to the old stage (next check, count of checks, evidence, progress) is reset unless `changes` sets it.
 * @throws GatewayError when the table does not allow it
 */
export function transition(
  video: Video,
  name: TransitionName,
  now: number,
  changes: Partial<Video> = {},
): Video {
  const { from, to, ...more } = transitions[name]
  if (!(from as readonly Stage[]).includes(video.stage)) {
    throw new GatewayError(errorByStage[video.stage], details[video.stage])
  }
  return {
    ...video,
    epoch: video.epoch + ('takes' in more ? 1 : 0),
    nextCheckAt: null,
    checks: 0,
    evidence: null,
    progress: null,
    ...changes,
    stage: to,
    stageSince: now,
    updatedAt: now,
  }
}
