import { check } from './check.ts'
import type { Gateway } from './gateway.ts'

/** Interval between checks of the videos of platforms that are not configured. Milliseconds. */
const intervalMs = 3_600_000
/** Videos of one platform per batch: no client waits for them. */
const batchSize = 100
const noHorizonMs = 10 ** 15

/**
 * Logs a warning for videos whose platform is no longer configured: the gateway can neither check nor delete them.
 * Reads only counts.
 */
export async function warnOfStrandedVideos(gateway: Gateway): Promise<void> {
  try {
    for (const [platform, videos] of await strandedVideos(gateway))
      gateway.log.warn(
        { platform, videos },
        'videos of a platform that is not configured: add it to PLATFORMS',
      )
  } catch (error) {
    gateway.log.warn({ err: error }, 'could not count the videos of platforms that are not configured')
  }
}

/**
 * Checks these videos every hour, so that none is processing forever: a platform that is not configured counts as
 * unavailable, with the same time limit.
 * @returns a function that stops it
 */
export function startStrandedSweep(gateway: Gateway): () => void {
  const timer = setInterval(() => void sweepStrandedVideos(gateway), intervalMs).unref()
  return () => clearInterval(timer)
}

/** Runs one such check. Never throws. */
export async function sweepStrandedVideos(gateway: Gateway): Promise<void> {
  const { store, policy, log } = gateway
  try {
    for (const platform of (await strandedVideos(gateway)).keys()) {
      // No horizon: these rows are not scheduled for a certain time.
      const due = { platform, ready: false, claim: policy.claim, horizon: noHorizonMs }
      for (const { video } of await store.claimDue({ ...due, limit: batchSize })) await check(gateway, video)
    }
  } catch (error) {
    log.warn({ err: error }, 'could not check the videos of platforms that are not configured')
  }
}

/** Returns the number of videos of each platform that is not configured. */
async function strandedVideos({ store, platforms }: Gateway): Promise<Map<string, number>> {
  const stranded = new Map<string, number>()
  for (const { platform, stage, count } of await store.counts())
    if (!platforms.has(platform) && stage !== 'deleted')
      stranded.set(platform, (stranded.get(platform) ?? 0) + count)
  return stranded
}
