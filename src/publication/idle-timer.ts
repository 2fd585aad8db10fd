import { GatewayError } from '../errors.ts'

/** Fails an upload in which no byte moves, and says whose turn it was. */
export interface IdleTimer {
  /** It is this side's turn from now on, and the time begins anew. */
  waitFor(side: 'caller' | 'platform'): void
  /** Nothing more comes of the caller: unless nobody's turn is watched, it is the platform's. */
  expectPlatform(): void
  /** Nobody's turn is watched until the next `waitFor`. */
  hold(): void
  stop(): void
}

/** Watches from now on; the caller's turn is first. */
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
