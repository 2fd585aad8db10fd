import { GatewayError, type ProblemCode } from '../errors.ts'
import type { Stage, Video } from './video.ts'

/** The whole life of a video: what may happen, from where, and where it leads. */
export const transitions = {
  /** The platform gave a slot. */
  provisioned: { from: ['provisioning'], to: 'awaiting-upload' },
  /** The platform refused; nothing is there. */
  'provision-refused': { from: ['provisioning'], to: 'deleted' },
  /** The gateway stopped in the middle and cannot find out what the platform did. */
  'provision-lost': { from: ['provisioning'], to: 'failed' },
  'upload-started': { from: ['awaiting-upload'], to: 'uploading' },
  /** The upload failed or died; the slot takes another one. */
  'upload-cut': { from: ['uploading'], to: 'awaiting-upload' },
  'upload-completed': { from: ['uploading'], to: 'processing' },
  processed: { from: ['processing'], to: 'ready' },
  'processing-failed': { from: ['processing'], to: 'failed' },
  /** The platform no longer has a video that was ready. */
  vanished: { from: ['ready'], to: 'failed' },
  'removal-requested': {
    from: ['provisioning', 'awaiting-upload', 'uploading', 'processing', 'ready', 'failed', 'deleting'],
    to: 'deleting',
  },
  removed: { from: ['deleting'], to: 'deleted' },
} as const satisfies Record<string, { from: readonly Stage[]; to: Stage }>

export type TransitionName = keyof typeof transitions

/** What a caller hears who asks for a transition that the stage does not allow. */
const refusals: Record<Stage, ProblemCode> = {
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
const details: Partial<Record<Stage, string>> = { failed: 'the video failed: create another one' }

/**
 * Applies a transition, purely: returns the changed video and leaves the given one alone.
 * Whatever belonged to the old stage (lease, next check, count of checks) is reset unless `changes` sets it.
 * @throws GatewayError when the table does not allow it
 */
export function transition(
  video: Video,
  name: TransitionName,
  now: number,
  changes: Partial<Video> = {},
): Video {
  const { from, to } = transitions[name]
  if (!(from as readonly Stage[]).includes(video.stage)) {
    throw new GatewayError(refusals[video.stage], details[video.stage])
  }
  return {
    ...video,
    lease: null,
    nextCheckAt: null,
    checks: 0,
    ...changes,
    stage: to,
    stageSince: now,
    updatedAt: now,
  }
}
