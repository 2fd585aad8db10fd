import { setTimeout as sleep } from 'node:timers/promises'
import { Client, DatabaseError } from 'pg'
import { type Connection, readConnection } from '../postgres/connection.ts'
import { lacksTls } from '../postgres/failures.ts'
import { schemaVersion } from '../postgres/migrations.ts'
import { prepareDatabase } from '../postgres/pool.ts'
import { mappingOf } from './postgres-rows.ts'
import { batchSize, requireVersion, type Side, type Table, tables } from './side.ts'

/** Time to wait for the transactions of others, in s. */
const lockWaitS = 5
/** A running gateway tries to write at least this often, in ms: it claims due rows. */
const noticeMs = 3_000
const noticePauseMs = 50
/** Class and code of an error: the lock was not given in time. */
const lockNotAvailable = '55P03'

/** Opens `postgres://…` to be read. @throws Error when it cannot be, or a gateway writes to it */
export async function openPostgresSource(url: string): Promise<Side> {
  const connection = readConnection(url)
  const client = await connect(connection)
  try {
    const version = await versionOf(client, connection.schema)
    if (version === undefined) throw new Error(`the schema ${connection.schema} has no videos of a gateway`)
    requireVersion(version, schemaVersion)
    // The snapshot is taken after the lock: nothing that is written before the lock is missed.
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ')
    await lock(
      client,
      connection.schema,
      tables.map(({ name }) => name),
    )
    // The target needs every event's position. Here the transaction is rolled back.
    await client.query(
      `UPDATE "${connection.schema}".video_events e SET position = nextval('"${connection.schema}".event_positions')
       FROM (SELECT written FROM "${connection.schema}".video_events WHERE position IS NULL ORDER BY written FOR UPDATE) AS late
       WHERE e.written = late.written`,
    )
    return createSide(client, connection.schema)
  } catch (error) {
    await disconnect(client)
    throw error
  }
}

/** Opens `postgres://…` to be filled; makes its schema if it is missing. @throws Error when it is not empty */
export async function openPostgresTarget(url: string): Promise<Side> {
  const connection = readConnection(url)
  const { schema } = connection
  const client = await connect(connection)
  try {
    if ((await versionOf(client, schema)) !== undefined) await expectEmpty(client, schema)
    await prepareDatabase(connection)
    await client.query('BEGIN')
    await lock(client, schema, [...tables.map(({ name }) => name), 'video_counts', 'video_count_changes'])
    await expectEmpty(client, schema)
    // The counts are computed in one step at the end.
    await client.query(`ALTER TABLE "${schema}".videos DISABLE TRIGGER USER`)
    return createSide(client, schema)
  } catch (error) {
    await disconnect(client)
    throw error
  }
}

function createSide(client: Client, schema: string): Side {
  const lockedAt = performance.now()
  const place = (table: Table) => `"${schema}".${table.name}`
  let checkedAt = 0

  /** Writers of other processes wait for the lock, for as long as their statement timeout. */
  async function expectNoWriters(): Promise<void> {
    checkedAt = performance.now()
    const { rows } = await client.query(
      `SELECT count(DISTINCT pid) AS writers FROM pg_locks
       WHERE NOT granted AND mode = 'RowExclusiveLock' AND relation = ANY ($1::regclass[])`,
      [tables.map(place)],
    )
    if (rows[0].writers > 0)
      throw new Error(
        `${rows[0].writers} other connections write to FROM: stop every gateway that uses it, then run this again`,
      )
  }

  return {
    async count(table) {
      return (await client.query(`SELECT count(*) AS n FROM ${place(table)}`)).rows[0].n
    },
    async *rows(table) {
      const { selected, read } = mappingOf(table)
      await client.query(`DECLARE moved NO SCROLL CURSOR FOR SELECT ${selected} FROM ${place(table)}`)
      for (;;) {
        const { rows } = await client.query(`FETCH ${batchSize} FROM moved`)
        if (rows.length === 0) break
        yield rows.map(read)
        if (performance.now() - checkedAt > noticePauseMs) await expectNoWriters()
      }
      await client.query('CLOSE moved')
    },
    async add(table, rows) {
      const { insert, write } = mappingOf(table)
      await client.query(insert(place(table)), [JSON.stringify(rows.map(write))])
    },
    async expectAlone() {
      for (;;) {
        await expectNoWriters()
        if (performance.now() - lockedAt > noticeMs) return
        await sleep(noticePauseMs)
      }
    },
    async commit() {
      await client.query(
        `SELECT setval('"${schema}".event_positions', position) FROM "${schema}".video_events
         ORDER BY position DESC LIMIT 1`,
      )
      await client.query(`
        DELETE FROM "${schema}".video_count_changes;
        DELETE FROM "${schema}".video_counts;
        INSERT INTO "${schema}".video_counts SELECT platform, stage, count(*) FROM "${schema}".videos GROUP BY 1, 2;
        ALTER TABLE "${schema}".videos ENABLE TRIGGER USER;
        ANALYZE ${tables.map(place).join(', ')};
        COMMIT`)
    },
    close: () => disconnect(client),
  }
}

/** Connects without time limits for statements, and without TLS where `sslmode=prefer` finds none. */
async function connect(connection: Connection): Promise<Client> {
  const { config } = connection
  const client = new Client({
    ...config,
    query_timeout: 0,
    connectionTimeoutMillis: 5_000,
    ...('statement_timeout' in config && { statement_timeout: 0, idle_in_transaction_session_timeout: 0 }),
  })
  // A connection that breaks fails the query in progress too.
  client.on('error', () => {})
  try {
    await client.connect()
    return client
  } catch (error) {
    await disconnect(client)
    if (!connection.tlsOptional || !config.ssl || !lacksTls(error)) throw error
    config.ssl = false
    return connect(connection)
  }
}

async function disconnect(client: Client): Promise<void> {
  await Promise.race([client.end().catch(() => {}), sleep(1_000, undefined, { ref: false })])
}

async function lock(client: Client, schema: string, names: string[]): Promise<void> {
  await client.query(`SET LOCAL lock_timeout = '${lockWaitS}s'`)
  try {
    await client.query(
      `LOCK TABLE ${names.map((name) => `"${schema}".${name}`).join(', ')} IN EXCLUSIVE MODE`,
    )
  } catch (error) {
    if (!(error instanceof DatabaseError) || error.code !== lockNotAvailable) throw error
    throw new Error('another process writes to it: stop every gateway that uses it, then run this again', {
      cause: error,
    })
  }
}

/** @returns undefined for a schema without tables of a gateway */
async function versionOf(client: Client, schema: string): Promise<number | undefined> {
  const { rows } = await client.query('SELECT to_regclass($1) AS there', [`"${schema}".schema_version`])
  if (rows[0].there === null) return undefined
  return (await client.query(`SELECT version FROM "${schema}".schema_version`)).rows[0]?.version
}

async function expectEmpty(client: Client, schema: string): Promise<void> {
  for (const { name, what } of tables) {
    const { rows } = await client.query('SELECT to_regclass($1) AS there', [`"${schema}".${name}`])
    if (rows[0].there === null) continue
    if ((await client.query(`SELECT 1 FROM "${schema}".${name} LIMIT 1`)).rows.length > 0)
      throw new Error(
        `it is not empty, it has ${what}: move to a new database, or to another one by ?schema=`,
      )
  }
}
