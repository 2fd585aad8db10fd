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
  /** Maximum age of keys that cannot be fetched again: after that they may have been revoked. */
  longestUse: 24 * 3_600_000,
  /** Number of immediate fetches in a row because of unknown key ids; after that, one per `cooldown`. */
  searches: 3,
  cooldown: 10_000,
  /** After the first failure; doubled after each further one. */
  firstPause: 1_000,
  longestPause: 30_000,
}

export interface IssuerKeys {
  /** Returns the keys to verify one token with. @throws GatewayError `issuer-unavailable` */
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
 * Keeps the public keys of an issuer. At most one fetch is in progress, shared by all calls that wait for it.
 * A failed fetch starts an outage: known keys stay in use, no call waits, calls that need another key fail immediately,
 * and the fetch is retried with growing pauses until the issuer responds. The log has one line for the start of an
 * outage and one for its end. A key that the issuer has just begun to use is accepted immediately; tokens with invented
 * key ids cannot cause more fetches than the policy allows.
 */
export function createIssuerKeys(address: IssuerAddress, log: IssuerLog, policy = issuerPolicy): IssuerKeys {
  const issuer = address.url.href
  let held: (IssuerMetadata & { at: number }) | undefined
  let asking: Promise<void> | undefined
  /** Theoretical arrival time of the generic cell rate algorithm, with one search per cooldown. */
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

  /** Returns the freshest keys that are available now. */
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

  /** Counts a search for an unknown key. @returns false if there were too many */
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
            // The issuer may have a new key; only its response can show that.
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

/** Returns the innermost message: that of fetch itself is only "fetch failed". */
function reasonOf(error: unknown): string {
  let innermost = error
  while (innermost instanceof Error && innermost.cause instanceof Error) innermost = innermost.cause
  return String(innermost instanceof Error ? innermost.message || innermost.name : innermost).slice(0, 200)
}
