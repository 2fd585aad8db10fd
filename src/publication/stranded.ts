import type { Gateway } from './gateway.ts'

/**
 * Warns of videos whose platform is not configured any more: the gateway can neither check nor delete them.
 * Asks the store for counts only.
 */
export function warnOfStrandedVideos({ store, platforms, log }: Gateway): void {
  try {
    const stranded = new Map<string, number>()
    for (const { platform, stage, count } of store.counts())
      if (!platforms.has(platform) && stage !== 'deleted')
        stranded.set(platform, (stranded.get(platform) ?? 0) + count)
    for (const [platform, videos] of stranded)
      log.warn({ platform, videos }, 'videos of a platform that is not configured: add it to PLATFORMS')
  } catch (error) {
    log.warn({ err: error }, 'the videos of platforms that are not configured could not be counted')
  }
}
