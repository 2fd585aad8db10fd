import type { GatewayError } from '../errors.ts'

/** Finding of one check of a video in processing. */
export type Finding =
  | { says: 'processing' }
  /** Ready, and its metadata is complete. */
  | { says: 'ready' }
  /** Ready, but without metadata yet. */
  | { says: 'ready-without-metadata' }
  | { says: 'failed'; message: string }
  /** The platform accepted the upload and now awaits one. */
  | { says: 'content-lost' }
  | { says: 'video-missing' }
  /** The platform could not be reached, or returned no usable response. */
  | { says: 'nothing'; error: GatewayError }

/** Findings of earlier checks of the same processing. Times in ms since the epoch. */
export interface Evidence {
  /** Time of the platform's last response. */
  answeredAt: number
  /** Time since the upload during which the platform was available and still processing, in ms. */
  processed: number
  /** Its current report, since when, and in how many checks in a row. */
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
  /** Maximum time for which the platform may report processing: `PROCESSING_TIMEOUT`. */
  processing: number
  /** Maximum interval between two responses that counts as processing time. */
  gap: number
  /** Time, and number of checks in a row, in which a platform must report a video missing before the video fails. */
  denial: { ms: number; times: number }
  /** Maximum time for which a platform may report ready without metadata. */
  metadata: number
  /** Maximum time for which a platform may be unavailable before its videos fail. */
  silence: number
}

/** The evidence at the end of an upload, before the first check. */
export function noEvidence(now: number): Evidence {
  return { answeredAt: now, processed: 0, saying: 'processing', since: now, times: 0 }
}

/**
 * Decides what a finding means, given the earlier ones. A pure function. Only a response can make the processing time
 * out, and only time in which the platform responded counts. A video fails as missing only after several checks,
 * because a replica or a proxy may briefly be out of date. A platform that does not respond at all has a limit of its
 * own.
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
  // Without a response, the last report stays as it is.
  if (says === 'nothing') return before
  const again = before.saying === says
  const run = {
    saying: says,
    since: again ? before.since : now,
    times: again ? before.times + 1 : 1,
  }
  // Not below zero, in case the clock was set back.
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
