import { readFileSync } from 'node:fs'
import type { ConnectionOptions } from 'node:tls'
import type { ClientConfig } from 'pg'

/** Address and options of a PostgreSQL database, from `DATABASE_URL`. */
export interface Connection {
  config: ClientConfig
  /** Host, port and database: what error messages may name. */
  place: string
  schema: string
  /** Whether statements are prepared by name. A pooler in transaction mode cannot keep them. */
  prepare: boolean
  /** With `sslmode=prefer`, a server without TLS is accepted. */
  tlsOptional: boolean
}

const parameters = [
  'schema',
  'prepare',
  'sslmode',
  'sslrootcert',
  'sslcert',
  'sslkey',
  'host',
  'application_name',
]
const sslModes = ['disable', 'prefer', 'require', 'verify-ca', 'verify-full'] as const
type SslMode = (typeof sslModes)[number]

/** Time after which the server cancels a statement, in ms. Every statement of the store takes a few milliseconds. */
export const statementTimeoutMs = 1_500
/** The same on this side, for a server that does not respond at all. */
const responseTimeoutMs = 2_000
/** Time for a connection to be free or to be made, in ms. */
export const connectTimeoutMs = 1_500

/**
 * Reads a URL `postgres://USER:PASSWORD@HOST:PORT/DATABASE?…`. What it leaves out comes from libpq's environment
 * variables, such as `PGPASSWORD`.
 * @throws Error that names what is wrong, and never a value that may be secret
 */
export function readConnection(text: string): Connection {
  const url = new URL(text)
  const given = url.searchParams
  for (const name of given.keys())
    if (!parameters.includes(name))
      throw new Error(`unknown parameter ${name}; the parameters are ${parameters.join(', ')}`)
  const schema = given.get('schema') ?? 'public'
  if (!/^[a-z_][a-z0-9_]{0,62}$/.test(schema))
    throw new Error('schema: expected up to 63 lower-case letters, digits and _')
  const prepare = given.get('prepare') ?? 'true'
  if (prepare !== 'true' && prepare !== 'false') throw new Error('prepare: expected true or false')
  const sslMode = (given.get('sslmode') ?? process.env.PGSSLMODE ?? 'prefer') as SslMode
  if (!sslModes.includes(sslMode)) throw new Error(`sslmode: expected one of ${sslModes.join(', ')}`)
  const socket = given.get('host')
  const place = `${socket ?? (url.host || process.env.PGHOST || 'localhost')}${url.pathname}`
  const ssl = socket?.startsWith('/') ? false : tlsOf(sslMode, given)
  const applicationName = given.get('application_name') ?? 'video-gateway'
  for (const name of parameters) if (name !== 'host') given.delete(name)
  return {
    schema,
    prepare: prepare === 'true',
    place,
    tlsOptional: sslMode === 'prefer',
    config: {
      connectionString: url.href,
      ssl,
      application_name: applicationName,
      keepAlive: true,
      keepAliveInitialDelayMillis: 10_000,
      connectionTimeoutMillis: connectTimeoutMs,
      query_timeout: responseTimeoutMs,
      // A pooler rejects connections that set these; its operator sets them for the role.
      ...(prepare === 'true' && {
        statement_timeout: statementTimeoutMs,
        idle_in_transaction_session_timeout: 10_000,
      }),
      types: { getTypeParser },
    },
  }
}

/**
 * `sslmode` as libpq has it (https://www.postgresql.org/docs/current/libpq-ssl.html). Without `sslrootcert`, the
 * certificates that Node trusts are the roots.
 */
function tlsOf(mode: SslMode, given: URLSearchParams): ConnectionOptions | false {
  if (mode === 'disable') return false
  const file = (name: string) => {
    const path = given.get(name)
    if (path === null || path === 'system') return undefined
    try {
      return readFileSync(path, 'utf8')
    } catch (error) {
      throw new Error(`${name}: cannot read the file (${(error as NodeJS.ErrnoException).code})`)
    }
  }
  const [ca, cert, key] = ['sslrootcert', 'sslcert', 'sslkey'].map(file)
  const files = { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) }
  if (mode === 'verify-full') return files
  // With roots of its own, `require` verifies as `verify-ca` does.
  if (mode === 'verify-ca' || (mode === 'require' && ca))
    return { ...files, checkServerIdentity: () => undefined }
  return { ...files, rejectUnauthorized: false }
}

/** PostgreSQL's `int8`, `json` and `text`: nothing else comes back from the store's statements. */
function getTypeParser(oid: number): (text: string) => unknown {
  if (oid === 20 || oid === 23) return Number
  return oid === 114 ? JSON.parse : String
}
