import type { GatewayError } from '../errors.ts'

/** What one check of a video in processing learned. */
export type Finding =
  | { says: 'processing' }
  /** Ready, and its metadata is complete. */
  | { says: 'ready' }
  /** Ready, but without metadata yet. */
  | { says: 'ready-without-metadata' }
  | { says: 'failed'; message: string }
  /** The platform took the upload and awaits one now. */
  | { says: 'content-lost' }
  | { says: 'video-missing' }
  /** The platform could not be asked, or gave no usable answer. */
  | { says: 'nothing'; error: GatewayError }

/** What earlier checks of the same processing found. Times in ms since the epoch. */
export interface Evidence {
  /** The last time that the platform said anything. */
  answeredAt: number
  /** The part of the time since the upload in which the platform was there and still processing, in ms. */
  processed: number
  /** What it says now, since when, and in how many checks in a row. */
  saying: Finding['says']
  since: number
  times: number
}

export type Verdict =
  | { is: 'wait' }
  | { is: 'ready' }
  | { is: 'failed'; error: { code: string; message: string } }

/** Limits in ms. */
export interface Patience {
  /** How long the platform may process, by its own word: `PROCESSING_TIMEOUT`. */
  processing: number
  /** Two answers further apart than this do not say that the platform was at work in between. */
  gap: number
  /** How long, and in how many checks in a row, a platform must deny a video before it is believed. */
  denial: { ms: number; times: number }
  /** How long a platform may say ready without giving the metadata. */
  metadata: number
  /** How long a platform may be unavailable before its videos fail. */
  silence: number
}

/** The evidence at the end of an upload, before the first check. */
export function noEvidence(now: number): Evidence {
  return { answeredAt: now, processed: 0, saying: 'processing', since: now, times: 0 }
}

/**
 * Decides, purely, what a finding means in the light of the earlier ones. Only an answer can time the processing out,
 * and only the time in which the platform answered counts; a platform that denies the video has to do so repeatedly,
 * for a replica or a proxy may not know better for a moment; one that says nothing at all has a patience of its own.
 */
export function judge(
  finding: Finding,
  before: Evidence,
  now: number,
  patience: Patience,
): { evidence: Evidence; verdict: Verdict } {
  const evidence = extend(before, finding, now, patience)
  return { evidence, verdict: decide(finding, evidence, now, patience) }
}

function extend(before: Evidence, { says }: Finding, now: number, { gap }: Patience): Evidence {
  // What the platform said last is neither confirmed nor denied by its silence.
  if (says === 'nothing') return before
  const again = before.saying === says
  const run = {
    saying: says,
    since: again ? before.since : now,
    times: again ? before.times + 1 : 1,
  }
  // Not below zero, should the clock have been set back.
  const passed = Math.max(0, now - before.answeredAt)
  const processed = before.processed + (says === 'processing' && passed <= gap ? passed : 0)
  return { ...run, answeredAt: now, processed }
}

function decide(finding: Finding, evidence: Evidence, now: number, patience: Patience): Verdict {
  const lasted = now - evidence.since
  switch (finding.says) {
    case 'ready':
      return { is: 'ready' }
    case 'failed':
      return failed('platform-processing-failed', finding.message)
    case 'processing':
      if (evidence.processed < patience.processing) return { is: 'wait' }
      return failed(
        'processing-timeout',
        `The platform was still processing after ${hours(evidence.processed)} h.`,
      )
    case 'ready-without-metadata':
      if (lasted < patience.metadata) return { is: 'wait' }
      return failed(
        'platform-metadata-missing',
        'The platform reports that the video is ready but returns no size or thumbnail: the file may have no video track.',
      )
    case 'content-lost':
      if (!isBelieved(evidence, lasted, patience)) return { is: 'wait' }
      return failed(
        'platform-lost-content',
        'The platform accepted the upload but no longer has it. Create the video again.',
      )
    case 'video-missing':
      if (!isBelieved(evidence, lasted, patience)) return { is: 'wait' }
      return failed('platform-video-missing', 'The platform no longer has the video.')
    case 'nothing':
      if (now - evidence.answeredAt < patience.silence) return { is: 'wait' }
      return failed(
        'platform-unreachable',
        `The platform could not be reached for ${hours(now - evidence.answeredAt)} h.`,
      )
  }
}

function isBelieved({ times }: Evidence, lasted: number, { denial }: Patience): boolean {
  return times >= denial.times && lasted >= denial.ms
}

function failed(code: string, message: string): Verdict {
  return { is: 'failed', error: { code, message } }
}

function hours(ms: number): number {
  return Number((ms / 3_600_000).toFixed(2))
}
