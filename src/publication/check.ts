import { GatewayError } from '../errors.ts'
import { CircuitOpenError, type Thumbnail, type VideoInfo, VideoMissingError } from '../platform/platform.ts'
import { advance } from './advance.ts'
import { backoffDelay } from './backoff.ts'
import { callFor } from './call.ts'
import { finishDeletion, undo } from './delete.ts'
import { type Gateway, platformOf } from './gateway.ts'
import { hintPauseMs } from './hint.ts'
import { type Hold, holding, isHeld } from './hold.ts'
import { type Evidence, type Finding, judge, noEvidence } from './judgement.ts'
import { recoverProvisioning } from './provision.ts'
import { recheck } from './recheck.ts'
import { reconcileUpload } from './reconcile.ts'
import { spread } from './refresh.ts'
import { storeResult } from './store-retry.ts'
import { reportFailure, reportSuccess } from './trouble.ts'
import type { Video } from './video.ts'

/** Longest `Retry-After` that the poller waits for. Milliseconds. */
export const maxPollRetryAfterMs = 600_000

/** Result of a check that the next one needs. */
interface Outcome {
  evidence?: Evidence
  /** Of the processing; undefined if the platform did not report it. */
  progress?: number | null | undefined
  /** Why the platform could not be asked, or did not do what it was asked for. */
  failure?: unknown
}

/**
 * Checks one claimed row: asks the platform for its state, or continues work that a crash or a failure interrupted.
 * Never throws: a failure is logged, and the row is scheduled again after the backoff.
 */
export async function check(gateway: Gateway, video: Video): Promise<void> {
  if (video.stage === 'ready' && !isToUndo(gateway, video)) return recheck(gateway, video)
  let outcome: Outcome
  try {
    outcome = (await holding(gateway, video, (hold) => runStage(gateway, video, hold))) ?? {}
  } catch (failure) {
    outcome = { failure }
  }
  try {
    if (gateway.signal.aborted) return await giveBack(gateway, video)
    if (outcome.failure === undefined) reportSuccess(gateway, video.platform)
    else reportFailure(gateway, video, outcome.failure, 'check failed')
    await storeResult(gateway, () => reschedule(gateway, video, outcome))
  } catch (error) {
    // The claim expires, so the row will be checked again.
    gateway.log.error({ video: video.id, err: error }, 'could not reschedule the check')
  }
}

async function runStage(gateway: Gateway, video: Video, hold: Hold): Promise<Outcome | undefined> {
  if (isToUndo(gateway, video)) {
    await undo(gateway, video)
    return
  }
  switch (video.stage) {
    case 'provisioning':
      await recoverProvisioning(gateway, video, hold)
      return
    case 'uploading':
      await reconcileUpload(gateway, video, hold)
      return
    case 'processing':
      return checkProcessing(gateway, video, hold)
    case 'deleting':
      await finishDeletion(gateway, hold)
      return
    default:
      // Nothing is due in the other stages: the row changed after the claim.
      return
  }
}

/** Asks for the state of a video in processing; fetches its metadata before it becomes `ready`. */
async function checkProcessing(gateway: Gateway, video: Video, hold: Hold): Promise<Outcome> {
  const { finding, metadata, progress } = await examine(gateway, video, hold)
  const now = gateway.store.now()
  const before = video.evidence ?? noEvidence(video.stageSince)
  const { evidence, verdict } = judge(finding, before, now, gateway.policy.patience)
  if (metadata) {
    const interval = spread(gateway.policy.recheck.interval)
    const times = (now: number) => ({ fetchedAt: now, checkedAt: now, nextCheckAt: now + interval })
    const changes = (now: number) => ({ ...metadata, ...times(now) })
    await storeResult(gateway, () => advance(gateway, video, 'processed', changes))
  } else if (verdict.is === 'failed') {
    const changes = (now: number) => ({ error: verdict.error, checkedAt: now })
    await storeResult(gateway, () => advance(gateway, video, 'processing-failed', changes))
  }
  return { evidence, progress, ...(finding.says === 'nothing' && { failure: finding.error }) }
}

interface Examination {
  finding: Finding
  progress?: number | null | undefined
  /** There when the video is ready. */
  metadata?: { info: VideoInfo; thumbnail: Thumbnail }
}

/** Returns what the platform reports about a video. @throws the reason for the end of the hold */
async function examine(gateway: Gateway, video: Video, hold: Hold): Promise<Examination> {
  let ready = false
  try {
    const platform = platformOf(gateway, video)
    const call = callFor(gateway, hold)
    const status = await platform.status(video.slot, call)
    if (status.state === 'failed') return { finding: { says: 'failed', message: status.message } }
    if (status.state === 'awaiting-upload') return { finding: { says: 'content-lost' } }
    if (status.state === 'processing')
      return { finding: { says: 'processing' }, progress: status.progress ?? null }
    ready = true
    const { slot } = (await gateway.store.find(video.id)) ?? video
    const info = await platform.info(slot, call)
    const thumbnail = await platform.thumbnail(slot, call)
    return { finding: { says: 'ready' }, metadata: { info, thumbnail } }
  } catch (error) {
    hold.signal.throwIfAborted()
    if (error instanceof VideoMissingError) return { finding: { says: 'video-missing' } }
    const failure =
      error instanceof GatewayError ? error : new GatewayError('internal-error', undefined, { cause: error })
    if (ready && failure.code === 'platform-protocol-error')
      return { finding: { says: 'ready-without-metadata' } }
    return { finding: { says: 'nothing', error: failure } }
  }
}

/** Plans the next check of a row that is still held. Few have changed since the claim: those alone are read again. */
async function reschedule(
  gateway: Gateway,
  video: Video,
  { evidence, progress, failure }: Outcome,
): Promise<void> {
  const retryAfter = failure instanceof GatewayError ? failure.retryAfter : undefined
  // While the circuit is open no request was sent.
  const asked = !(failure instanceof CircuitOpenError)
  const wait = retryAfter === undefined ? 0 : Math.min(retryAfter * 1000, maxPollRetryAfterMs)
  const checks = asked ? video.checks + 1 : video.checks
  const delay = Math.max(backoffDelay(gateway.policy.backoff, checks), wait)
  let wakeIn: number | undefined
  await gateway.store.plan(video, (current, now) => {
    if (!isHeld(video, current) || current.stage !== video.stage || current.nextCheckAt === null)
      return current
    // A webhook arrived during the check, whose result may be older than it.
    const hinted = current.hintedEpoch === current.epoch
    const pause = hinted ? Math.min(delay, Math.max(hintPauseMs, wait)) : delay
    wakeIn = hinted ? pause : undefined
    const nextCheckAt = current.stage === 'awaiting-upload' ? undoCheckAt(current, now) : now + pause
    const checkedAt = asked ? now : video.checkedAt
    const news = { evidence: evidence ?? current.evidence, ...(progress !== undefined && { progress }) }
    return { ...current, checks, checkedAt, nextCheckAt, ...news }
  })
  if (wakeIn !== undefined) gateway.wakePoller(video.platform, wakeIn)
}

/** Whether this is an unfinished creation with content that can no longer be finished. */
function isToUndo({ store }: Gateway, { stage, undoAt }: Video): boolean {
  return stage !== 'provisioning' && stage !== 'deleting' && undoAt !== null && undoAt <= store.now()
}

/** Steps of ten minutes: a check scheduled further ahead would look like one from before the clock was set back. */
function undoCheckAt({ undoAt }: Video, now: number): number | null {
  return undoAt === null ? null : Math.min(undoAt, now + maxPollRetryAfterMs)
}

/** Makes the row due immediately, for another process: this one is ending. */
async function giveBack(gateway: Gateway, video: Video): Promise<void> {
  await gateway.store.plan(video, (current, now) =>
    isHeld(video, current) && current.stage === video.stage && current.nextCheckAt !== null
      ? { ...current, nextCheckAt: now }
      : current,
  )
}
