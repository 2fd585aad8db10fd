import { GatewayError } from '../errors.ts'
import { CircuitOpenError } from '../platform/platform.ts'
import { type Gateway, NotConfiguredError } from './gateway.ts'
import type { Video } from './video.ts'

/** Failures that concern the whole platform, and are the same for every video. */
const platformWide = [
  'platform-unavailable',
  'platform-timeout',
  'platform-throttled',
  'platform-unauthorized',
]
/** Interval at which a continuing failure is logged again, in ms. */
const reminderMs = 600_000

/**
 * Logs that work on a video failed. A failure of the whole platform gets one line until work on one of its videos
 * succeeds; an open circuit has its own line.
 */
export function reportFailure(gateway: Gateway, video: Video, error: unknown, message: string): void {
  const { log, troubles } = gateway
  const { id, platform, stage } = video
  const code = error instanceof GatewayError ? error.code : undefined
  if (error instanceof CircuitOpenError || code === 'video-deleted') return
  // The operator was told at startup.
  if (error instanceof NotConfiguredError) return
  if (code && platformWide.includes(code)) {
    const now = performance.now()
    const loggedAt = troubles.get(platform)
    if (loggedAt !== undefined && now - loggedAt < reminderMs) return
    troubles.set(platform, now)
  }
  log.warn({ video: id, platform, stage, err: error }, message)
}

/** Reports a response of the platform for a video: its failure, if any, is over. */
export function reportSuccess({ log, troubles }: Gateway, platform: string): void {
  if (troubles.delete(platform)) log.info({ platform }, 'the platform responds again')
}
