import { createHash } from 'node:crypto'

/** A row under the names of the domain, with values that JSON can hold. */
export type Row = Record<string, unknown>

/** A table that is copied. */
export interface Table {
  /** In both engines. */
  name: string
  /** Description of its rows, for messages. */
  what: string
  /** Names in SQLite; PostgreSQL's are the same in snake case. Videos have rows of their own in each engine. */
  columns: Record<string, 'text' | 'bigint'>
  /** Columns with text of clients: PostgreSQL has it escaped. */
  escaped?: readonly string[]
}

/** Every table with data that cannot be computed from other tables. */
export const tables: readonly Table[] = [
  { name: 'videos', what: 'videos', columns: {} },
  {
    name: 'idempotency_keys',
    what: 'idempotency keys',
    columns: {
      client: 'text',
      key: 'text',
      fingerprint: 'text',
      videoId: 'text',
      response: 'text',
      createdAt: 'bigint',
    },
    escaped: ['client', 'key'],
  },
  {
    name: 'leftovers',
    what: 'expected leftovers',
    columns: { videoId: 'text', epoch: 'bigint', looks: 'bigint', createdAt: 'bigint', searchAt: 'bigint' },
  },
  {
    name: 'video_events',
    what: 'events',
    columns: {
      position: 'bigint',
      id: 'text',
      videoId: 'text',
      type: 'text',
      createdAt: 'bigint',
      video: 'text',
    },
  },
  {
    name: 'webhook_endpoints',
    what: 'webhook endpoints',
    columns: {
      id: 'text',
      slot: 'bigint',
      document: 'text',
      enabled: 'bigint',
      events: 'text',
      beginsAfter: 'bigint',
      failingSince: 'bigint',
      version: 'bigint',
      resendSince: 'bigint',
      resendAfter: 'bigint',
      resendUpTo: 'bigint',
    },
  },
  {
    name: 'webhook_deliveries',
    what: 'webhook deliveries',
    columns: {
      endpointId: 'text',
      eventId: 'text',
      position: 'bigint',
      type: 'text',
      body: 'text',
      status: 'text',
      attempts: 'bigint',
      createdAt: 'bigint',
      nextAttemptAt: 'bigint',
      lastAttemptAt: 'bigint',
      result: 'text',
    },
  },
  { name: 'webhook_fan_out', what: 'webhook cursors', columns: { id: 'bigint', position: 'bigint' } },
]

/** Rows per batch: a row takes up to 60 KiB. */
export const batchSize = 500

/** A store that is moved from or to. While it is open, no other process can write to it. */
export interface Side {
  count(table: Table): Promise<number>
  /** All rows in batches, in any order. */
  rows(table: Table): AsyncIterable<Row[]>
  /** Adds rows, which are not visible to others before `commit`. */
  add(table: Table, rows: Row[]): Promise<void>
  /**
   * Waits as long as it takes to notice other processes.
   * @throws Error when another process tried to write
   */
  expectAlone(): Promise<void>
  commit(): Promise<void>
  /** Rolls back what was not committed. */
  close(): Promise<void>
}

/** Number and digest of rows, independent of their order. */
export interface Sum {
  count: number
  digest: bigint
}

/** Adds rows to a sum: the digest is that of all rows together, modulo 2^256. */
export function addUp({ count, digest }: Sum, rows: Row[]): Sum {
  let sum = digest
  for (const row of rows) {
    const text = JSON.stringify(Object.entries(row).sort(([a], [b]) => (a < b ? -1 : 1)))
    sum += BigInt(`0x${createHash('sha256').update(text).digest('hex')}`)
  }
  return { count: count + rows.length, digest: BigInt.asUintN(256, sum) }
}

/** @throws Error that says what to do with a source whose schema is not that of this release */
export function requireVersion(version: number, current: number): void {
  if (version > current)
    throw new Error(
      `it has schema version ${version}, this release supports up to ${current}: use a newer release`,
    )
  if (version < current)
    throw new Error(
      `it has schema version ${version} of an earlier release, this one requires ${current}: start this release of the gateway on it once and stop it`,
    )
}
