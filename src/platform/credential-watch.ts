import { setTimeout as sleep } from 'node:timers/promises'
import { GatewayError } from '../errors.ts'
import { isTransient } from './http/failures.ts'
import type { VideoPlatform } from './platform.ts'
import type { Log } from './tools.ts'

/** Milliseconds; tests that cannot wait have shorter ones. */
export const credentialPolicy = {
  /** For one check, its retries included. */
  deadline: 30_000,
  /** After the first check that did not succeed; doubled after each further one. */
  firstPause: 10_000,
  longestPause: 300_000,
  /** After a check that succeeded. */
  interval: 3_600_000,
}

export interface CredentialWatch {
  platforms: Iterable<VideoPlatform>
  log: Log
  /** Called on each change; undefined means unknown, because the platform does not respond. */
  changed(platform: string, valid: boolean | undefined): void
  /** Ends the watch. */
  signal: AbortSignal
  policy?: typeof credentialPolicy
}

/**
 * Checks the credentials of each platform now and from time to time, in the background: a platform that is down when
 * the gateway starts is normal. Each change is logged once.
 */
export function watchCredentials({ platforms, ...watch }: CredentialWatch): void {
  for (const platform of platforms) void watchPlatform(platform, watch)
}

async function watchPlatform(platform: VideoPlatform, watch: Omit<CredentialWatch, 'platforms'>) {
  const { log, signal, policy = credentialPolicy } = watch
  const { name } = platform
  let known: string | undefined
  for (let failures = 0; ; ) {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(policy.deadline)])
    const error = await platform.checkCredentials(limited).then(
      () => undefined,
      (reason: unknown) => reason,
    )
    if (signal.aborted) return
    failures = error === undefined ? 0 : failures + 1
    const result = resultOf(error)
    if (result !== known) {
      known = result
      watch.changed(name, validity[result])
      const reason = error instanceof Error ? error.message : undefined
      if (result === 'valid') log.info({ platform: name }, 'the credentials of the platform are valid')
      else log.warn({ platform: name, reason }, messages[result])
    }
    const pause = Math.min(policy.firstPause * 2 ** (failures - 1), policy.longestPause)
    await sleep(failures ? pause : policy.interval, undefined, { signal, ref: false }).catch(() => {})
    if (signal.aborted) return
  }
}

const validity = { valid: true, invalid: false, unavailable: undefined, unexpected: undefined }

const messages = {
  invalid: 'the platform rejects the credentials: correct its variables, then restart or send SIGHUP',
  unavailable: 'the platform is unavailable: the credentials are not checked yet',
  unexpected: 'the platform returned an unexpected response to the credentials check: check its base URL',
}

function resultOf(error: unknown): 'valid' | keyof typeof messages {
  if (error === undefined) return 'valid'
  if (error instanceof GatewayError && error.code === 'platform-unauthorized') return 'invalid'
  const timedOut = error instanceof Error && error.name === 'TimeoutError'
  return timedOut || isTransient(error) ? 'unavailable' : 'unexpected'
}
