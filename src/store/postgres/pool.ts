import { setTimeout as sleep } from 'node:timers/promises'
import { Client, Pool } from 'pg'
import type { Connections } from '../../publication/store.ts'
import type { DatabaseClock } from './clock.ts'
import { type Connection, connectTimeoutMs } from './connection.ts'
import { failureOf, isFromPooler, lacksTls, mayPass } from './failures.ts'
import { migrate } from './migrations.ts'
import type { Statement } from './statements.ts'

/** Time to wait at startup for a database that is starting too, in ms. */
const startWaitMs = 30_000
const startPauseMs = 250
/** A connection is replaced at this age, in s: after a failover or behind a balancer, they spread again. */
const longestLifetimeS = 1_800
const idleTimeoutMs = 60_000
/** Time that connections have to say goodbye, in ms. */
const closeTimeoutMs = 1_000

// biome-ignore lint/suspicious/noExplicitAny: rows are what the statement's columns say
export type Row = Record<string, any>

export interface Database {
  /** @throws GatewayError `store-unavailable`, and StoreBusyError when it may pass by itself */
  query(statement: Statement, values?: unknown[]): Promise<Row[]>
  connections(): Connections
  close(): Promise<void>
}

/**
 * Waits until the database can be reached, at most 30 seconds, and brings its schema up to date.
 * @throws Error that says why it cannot be used
 */
export async function prepareDatabase(connection: Connection): Promise<void> {
  for (const deadline = performance.now() + startWaitMs; ; await sleep(startPauseMs)) {
    const client = new Client({ ...connection.config, query_timeout: 0, connectionTimeoutMillis: 5_000 })
    // A broken connection also fails the query in progress.
    client.on('error', () => {})
    try {
      await client.connect()
      await migrate(client, connection.schema)
      return
    } catch (error) {
      if (connection.tlsOptional && connection.config.ssl && lacksTls(error)) connection.config.ssl = false
      else if (isFromPooler(error))
        throw new Error('this is a pooler: add prepare=false to DATABASE_URL', { cause: error })
      else if (!mayPass(error) || performance.now() > deadline) throw error
    } finally {
      await Promise.race([client.end().catch(() => {}), sleep(closeTimeoutMs, undefined, { ref: false })])
    }
  }
}

/**
 * A pool of connections. One that fails is replaced; nothing but the pool knows of it.
 * @param clock observes the column `now` of responses
 */
export function openPool({ config, prepare }: Connection, size: number, clock: DatabaseClock): Database {
  const pool = new Pool({
    ...config,
    max: size,
    connectionTimeoutMillis: connectTimeoutMs,
    idleTimeoutMillis: idleTimeoutMs,
    maxLifetimeSeconds: longestLifetimeS,
    allowExitOnIdle: true,
  })
  // An idle connection broke. The pool drops it, and the next query gets another.
  pool.on('error', () => {})
  /** Since when every query failed, on the monotonic clock. */
  let failingSince: number | undefined

  return {
    async query({ name, text }, given = []) {
      const begun = performance.now()
      // Columns are whole milliseconds, and a duration may not be: 15 minutes with a jitter of 0.15.
      const values = given.map((value) => (typeof value === 'number' ? Math.round(value) : value))
      try {
        const { rows } = await pool.query(prepare ? { name, text, values } : { text, values })
        failingSince = undefined
        const shown = rows[0]?.now
        if (shown !== undefined) clock.observe(shown, begun, performance.now())
        return rows
      } catch (error) {
        failingSince ??= begun
        throw failureOf(error, failingSince)
      }
    },
    connections: () => ({
      used: pool.totalCount - pool.idleCount,
      idle: pool.idleCount,
      waiting: pool.waitingCount,
      limit: size,
    }),
    async close() {
      await Promise.race([pool.end(), sleep(closeTimeoutMs, undefined, { ref: false })])
    },
  }
}
