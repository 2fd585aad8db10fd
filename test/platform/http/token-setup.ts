import { mock } from 'node:test'
import { inspect } from 'node:util'
import type { Test } from 'tap'
import { createTokenCache, type Grant } from '../../../src/platform/http/token-cache.ts'
import { defaultTools, type PlatformTools } from '../../../src/platform/tools.ts'

export function setUp(grant: Grant, changes: Partial<PlatformTools> = {}) {
  const outcomes: string[] = []
  const logged: string[] = []
  const tools = toolsFor(logged, outcomes)
  return { cache: createTokenCache('acme', grant, { ...tools, ...changes }), outcomes, logged }
}

export function toolsFor(logged: string[] = [], outcomes: string[] = []): PlatformTools {
  const log = (fields: object, message: string) => void logged.push(`${message} ${inspect(fields)}`)
  return {
    ...defaultTools,
    log: { info: log, warn: log, error: log },
    observer: { call() {}, circuit() {}, tokenRequest: (_platform, outcome) => void outcomes.push(outcome) },
  }
}

/** Stops the clock by which a token's life is measured, not the timers; milliseconds from 0. */
export function fakeClock(t: Test) {
  let at = 0
  const stopped = mock.method(performance, 'now', () => at)
  t.teardown(() => stopped.mock.restore())
  return {
    now: () => at,
    set: (time: number) => {
      at = time
    },
  }
}

export function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 30))
}
