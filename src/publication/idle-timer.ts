import { GatewayError } from '../errors.ts'

/** Fails an upload without progress, with an error that names the side that was expected to act. */
export interface IdleTimer {
  /** Waits for this side from now on, and restarts the timeout. */
  waitFor(side: 'caller' | 'platform'): void
  /** The client has sent everything: waits for the platform, unless the timer is on hold. */
  expectPlatform(): void
  /** Suspends the timer until the next `waitFor`. */
  hold(): void
  stop(): void
}

/** Starts the timer; it waits for the client first. */
export function createIdleTimer(ms: number, fail: (error: GatewayError) => void): IdleTimer {
  let side: 'caller' | 'platform' | undefined = 'caller'
  const timer = setTimeout(() => {
    const seconds = ms / 1000
    if (side === 'caller')
      fail(new GatewayError('upload-timeout', `No data arrived for ${seconds} s. Upload again.`))
    if (side === 'platform')
      fail(
        new GatewayError('platform-timeout', `The platform accepted no data for ${seconds} s. Retry later.`),
      )
  }, ms)
  const waitFor = (next: typeof side) => {
    side = next
    timer.refresh()
  }
  return {
    waitFor,
    expectPlatform: () => side && waitFor('platform'),
    hold() {
      side = undefined
    },
    stop: () => clearTimeout(timer),
  }
}
