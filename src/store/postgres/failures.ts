import { DatabaseError } from 'pg'
import { GatewayError } from '../../errors.ts'
import { StoreBusyError } from '../../publication/store.ts'

/**
 * Classes and codes of errors that pass by themselves, by another connection or a little later
 * (https://www.postgresql.org/docs/current/errcodes-appendix.html): connection lost; transaction rolled back by a
 * conflict; too many connections; shutdown, restart, failover; a statement that took too long; a lock.
 */
const transient = [/^08/, /^40/, /^53300$/, /^57P0/, /^57014$/, /^55P03$/]
/** The server became a standby, or this connection still leads to the old primary. */
const readOnly = '25006'
/** Connection errors that do not disappear by waiting. */
const permanent = /^(28|3D|42|0A|3F)/

/** Turns what `pg` throws into the errors that callers know. */
export function failureOf(error: unknown, since: number): GatewayError {
  if (!(error instanceof DatabaseError)) return new StoreBusyError(since, error)
  const { code = '' } = error
  if (code === readOnly || transient.some((pattern) => pattern.test(code)))
    return new StoreBusyError(since, error)
  return new GatewayError('store-unavailable', undefined, { retryAfter: 5, cause: error })
}

/** Whether another attempt to open the store makes sense, so that gateway and database can be started together. */
export function mayPass(error: unknown): boolean {
  if (error instanceof DatabaseError) return !permanent.test(error.code ?? '')
  const { code = '' } = error as NodeJS.ErrnoException
  return /^(ECONN|ETIMEDOUT|EHOST|ENET|EPIPE|EAI_AGAIN|ENOTFOUND|ENOENT)/.test(code) || isDisconnect(error)
}

function isDisconnect(error: unknown): boolean {
  return /terminated|timeout|closed/i.test((error as Error).message)
}

/** Whether the server offers no TLS. */
export function lacksTls(error: unknown): boolean {
  return /does not support SSL/.test((error as Error).message)
}

/** Whether a pooler such as pgbouncer rejected settings for the session: `unsupported startup parameter: statement_timeout`. */
export function isFromPooler(error: unknown): boolean {
  return /unsupported startup parameter/.test((error as Error).message)
}
