import * as jose from 'jose'
import { GatewayError } from '../errors.ts'
import { fetchIssuerMetadata, type IssuerAddress, type IssuerMetadata } from './issuer-metadata.ts'

export interface IssuerLog {
  info(details: object, message: string): void
  warn(details: object, message: string): void
}

/** Times in milliseconds; tests that cannot wait have shorter ones. */
export const issuerPolicy = {
  /** For metadata and keys together. */
  deadline: 5_000,
  /** Keys older than `renewAfter` are fetched again in the background, a call waits from `maxAge` on. */
  renewAfter: 300_000,
  maxAge: 600_000,
  /** Keys that could not be fetched again for so long are no longer used: they may have been revoked. */
  longestUse: 24 * 3_600_000,
  /** Unknown key ids ask for the keys again at once, this many times in a row, then once in each `cooldown`. */
  searches: 3,
  cooldown: 10_000,
  /** After the first failure; doubled after each further one. */
  firstPause: 1_000,
  longestPause: 30_000,
}

export interface IssuerKeys {
  /** What is needed to verify one token. @throws GatewayError `issuer-unavailable` */
  current(): Promise<TokenKeys>
  close(): void
}

export interface TokenKeys {
  /** The `iss` of the issuer's tokens. */
  issuer: string
  /** @throws GatewayError `issuer-unavailable`; JOSEError for a token that none of the keys has signed */
  find: jose.JWTVerifyGetKey
}

/**
 * Keeps the public keys of an issuer. One question at a time is under way, shared by all calls that need its answer.
 * A failed one begins an outage: known keys serve on, nobody waits, calls that need another key fail at once, and the
 * question is repeated with growing pauses until the issuer answers. The log has one line for the beginning of an
 * outage and one for its end. A key that the issuer has just begun to use is accepted at once; tokens with made-up key
 * ids cannot cause more questions than the policy allows.
 */
export function createIssuerKeys(address: IssuerAddress, log: IssuerLog, policy = issuerPolicy): IssuerKeys {
  const issuer = address.url.href
  let held: (IssuerMetadata & { at: number }) | undefined
  let asking: Promise<void> | undefined
  /** When all searches that were begun would be paid for, one in each cooldown (the generic cell rate algorithm). */
  let searchesPaidAt = 0
  let outage: { failures: number; retryAt: number; timer: NodeJS.Timeout } | undefined
  const closed = new AbortController()

  /** Never rejects. */
  function ask(): Promise<void> {
    const signal = AbortSignal.any([closed.signal, AbortSignal.timeout(policy.deadline)])
    asking ??= fetchIssuerMetadata(address, signal)
      .then(succeed, fail)
      .finally(() => {
        asking = undefined
      })
    return asking
  }

  function succeed(metadata: IssuerMetadata): void {
    held = { ...metadata, at: performance.now() }
    if (outage) log.info({ issuer }, 'external token issuer is available again')
    outage = undefined
  }

  function fail(error: unknown): void {
    if (closed.signal.aborted) return
    if (!outage) {
      const details = { issuer, reason: reasonOf(error), knownKeys: held !== undefined }
      log.warn(details, 'external token issuer is unavailable')
    }
    const failures = (outage?.failures ?? 0) + 1
    const pause = Math.min(policy.firstPause * 2 ** (failures - 1), policy.longestPause)
    const timer = setTimeout(ask, pause).unref()
    outage = { failures, retryAt: performance.now() + pause, timer }
  }

  const ageOf = ({ at }: { at: number }) => performance.now() - at

  /** The keys to use now, as fresh as they can be had. */
  async function freshest() {
    if (!outage) {
      if (!held || ageOf(held) > policy.maxAge) await ask()
      else if (ageOf(held) > policy.renewAfter) void ask()
    }
    if (!held || ageOf(held) > policy.longestUse) throw unavailable()
    return held
  }

  function unavailable(): GatewayError {
    const left = (outage?.retryAt ?? 0) - performance.now()
    return new GatewayError('issuer-unavailable', undefined, {
      retryAfter: Math.max(1, Math.ceil(left / 1000)),
    })
  }

  /** Counts a search for an unknown key, unless there were too many. */
  function maySearch(): boolean {
    const now = performance.now()
    if (searchesPaidAt > now + (policy.searches - 1) * policy.cooldown) return false
    searchesPaidAt = Math.max(searchesPaidAt, now) + policy.cooldown
    return true
  }

  return {
    async current() {
      const calledAt = performance.now()
      const known = await freshest()
      return {
        issuer: known.issuer,
        async find(header, token) {
          try {
            return await known.keys(header, token)
          } catch (error) {
            if (!(error instanceof jose.errors.JWKSNoMatchingKey)) throw error
            // The issuer may have a new key: there is no telling until it answers.
            if (outage) throw unavailable()
            if (known.at >= calledAt) throw error
            if (!asking && !maySearch()) throw error
            await ask()
            if (outage || !held) throw unavailable()
            return held.keys(header, token)
          }
        },
      }
    },

    close() {
      closed.abort()
      clearTimeout(outage?.timer)
    },
  }
}

/** The innermost message: fetch says no more than "fetch failed" itself. */
function reasonOf(error: unknown): string {
  let innermost = error
  while (innermost instanceof Error && innermost.cause instanceof Error) innermost = innermost.cause
  return String(innermost instanceof Error ? innermost.message || innermost.name : innermost).slice(0, 200)
}
