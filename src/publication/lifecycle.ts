import { GatewayError, type ProblemCode } from '../errors.ts'
import type { Stage, Video } from './video.ts'

/**
 * The lifecycle of a video: each transition with the stages that allow it and the resulting stage. A transition with
 * `takes` begins new work: it takes hold of the row, and earlier work can no longer write to it.
 */
export const transitions = {
  /** The platform returned a slot. */
  provisioned: { from: ['provisioning'], to: 'awaiting-upload' },
  /** The platform rejected the slot; it created nothing. */
  'provisioning-rejected': { from: ['provisioning'], to: 'deleted' },
  'upload-started': { from: ['awaiting-upload'], to: 'uploading', takes: true },
  /** The upload failed or its process died; the slot accepts another upload. */
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

/** The error for a transition that the stage does not allow. */
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

/** Details for codes that would mislead: a video may have failed before it had any content. */
const details: Partial<Record<Stage, string>> = {
  failed: 'The video failed and accepts no content. Delete it and create a new one.',
}

/**
 * Applies a transition as a pure function: returns the changed video and does not modify the given one.
 * Values of the old stage (next check, number of checks, evidence, progress) are reset unless `changes` sets them.
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
