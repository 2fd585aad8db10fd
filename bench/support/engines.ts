import { DatabaseSync } from 'node:sqlite'
import type { Video } from '../../src/publication/video.ts'
import { openStore } from '../../src/store/open.ts'
import { columnsOf } from '../../src/store/postgres/row.ts'
import { insertColumns } from '../../src/store/postgres/statements.ts'
import { type PostgresServer, schemaOf, startPostgres } from '../../test/support/postgres.ts'
import { freshPath } from './processes.ts'
import { cpuOfTree } from './usage.ts'

/** A database that the gateway can use. */
export interface Engine {
  name: 'SQLite' | 'PostgreSQL'
  /** Makes an empty database with the gateway's schema. @returns its `DATABASE_URL` */
  create(): Promise<string>
  /** Makes a database with these videos. */
  seed(videos: Iterable<Video>): Promise<string>
  /** Makes a database with so many copies of a video, see {@link idOf}. The database makes them itself, which is quicker. */
  fill(count: number, model: Video): Promise<string>
  /** CPU seconds that the processes of the database have used so far. */
  cpu(): Promise<number>
  /** Frees the space of a database that is no longer needed. */
  drop(url: string): Promise<void>
}

let server: Promise<PostgresServer | { unavailable: string }> | undefined

/** The engines that can run here. PostgreSQL is started once, with commits that wait for the disk. */
export async function engines(): Promise<Engine[]> {
  server ??= startPostgres({ flags: ['-c', 'fsync=on'] })
  const started = await server
  return 'unavailable' in started ? [sqlite] : [sqlite, postgresOn(started)]
}

/** Stops PostgreSQL, if it was started. */
export async function stopEngines(): Promise<void> {
  const started = await server
  if (started && !('unavailable' in started)) await started.close()
}

/** Ids in the order of creation, as UUIDv7 are. */
export function idOf(index: number): string {
  const high = Math.floor(index / 65_536)
  return `01930000-${high.toString(16).padStart(4, '0')}-7000-8000-${index.toString(16).padStart(12, '0')}`
}

const sqlite: Engine = {
  name: 'SQLite',
  async create() {
    const url = `sqlite:${freshPath('seeded.db')}`
    await (await openStore(url, 1)).close()
    return url
  },
  async seed(videos) {
    const url = await sqlite.create()
    const db = new DatabaseSync(url.replace('sqlite:', ''))
    // One transaction for all: the store's own would be flushed to disk row by row.
    const insert = db.prepare('INSERT INTO videos (id, document) VALUES (?, ?)')
    db.exec('BEGIN')
    for (const video of videos) insert.run(video.id, JSON.stringify(video))
    db.exec('COMMIT')
    db.close()
    return url
  },
  async fill(count, model) {
    const url = await sqlite.create()
    const db = new DatabaseSync(url.replace('sqlite:', ''))
    db.prepare(`
      INSERT INTO videos (id, document)
      WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ? - 1),
           v (i, id) AS (SELECT i, printf('01930000-%04x-7000-8000-%012x', i / 65536, i) FROM n)
      SELECT id, json_set(?, '$.id', id,
        '$.reference', iif(i % 2 = 0, 'shared', 'cms-' || i),
        '$.platform', iif(i < 10, 'mux', 'sandbox'),
        '$.stage', CASE WHEN i % 10 < 5 THEN 'deleted' WHEN i % 10 = 5 THEN 'processing' ELSE 'ready' END)
      FROM v`).run(count, JSON.stringify(model))
    db.exec('PRAGMA wal_checkpoint(TRUNCATE)')
    db.close()
    return url
  },
  cpu: async () => 0,
  async drop() {},
}

/** Rows per statement. */
const batchSize = 5_000

function postgresOn(postgres: PostgresServer): Engine {
  /** Inserts without the triggers that count, and counts once at the end. */
  async function insert(sql: (schema: string) => AsyncIterable<[string, unknown[]]>): Promise<string> {
    const url = await engine.create()
    const schema = schemaOf(url)
    await postgres.query(`ALTER TABLE ${schema}.videos DISABLE TRIGGER USER`)
    for await (const [text, values] of sql(schema)) await postgres.query(text, values)
    await postgres.query(`ALTER TABLE ${schema}.videos ENABLE TRIGGER USER`)
    await postgres.query(
      `INSERT INTO ${schema}.video_counts SELECT platform, stage, count(*) FROM ${schema}.videos GROUP BY 1, 2`,
    )
    await postgres.query(`VACUUM ANALYZE ${schema}.videos`)
    await postgres.query('CHECKPOINT')
    return url
  }

  const engine: Engine = {
    name: 'PostgreSQL',
    async create() {
      const url = postgres.newUrl()
      await (await openStore(url, 1)).close()
      return url
    },
    seed: (videos) =>
      insert(async function* (schema) {
        const rows = [...videos].map(columnsOf)
        for (let at = 0; at < rows.length; at += batchSize)
          yield [
            `INSERT INTO ${schema}.videos (${insertColumns})
             SELECT ${insertColumns} FROM json_populate_recordset(NULL::${schema}.videos, $1)`,
            [JSON.stringify(rows.slice(at, at + batchSize).map(withDocument))],
          ]
      }),
    fill: (count, model) =>
      insert(async function* (schema) {
        const { document } = columnsOf(model)
        for (let at = 0; at < count; at += 100_000)
          yield [
            `INSERT INTO ${schema}.videos (id, platform, stage, reference, version, epoch, checks, bytes_received,
               updated_at, document)
             SELECT id, CASE WHEN i < 10 THEN 'mux' ELSE 'sandbox' END,
               CASE WHEN i % 10 < 5 THEN 'deleted' WHEN i % 10 = 5 THEN 'processing' ELSE 'ready' END, reference, 1, 1,
               0, 0, $4, jsonb_set(jsonb_set($3::jsonb, '{id}', to_jsonb(id)), '{reference}', to_jsonb(reference))::json
             FROM generate_series($1::bigint, $2::bigint) AS i,
               LATERAL (SELECT format('01930000-%s-7000-8000-%s', lpad(to_hex(i / 65536), 4, '0'),
                 lpad(to_hex(i), 12, '0')) AS id,
                 CASE WHEN i % 2 = 0 THEN 'shared' ELSE 'cms-' || i END AS reference) AS made`,
            [at, Math.min(at + 100_000, count) - 1, document, model.updatedAt],
          ]
      }),
    cpu: async () => cpuOfTree(await postgres.pid()),
    drop: async (url) => void (await postgres.query(`DROP SCHEMA ${schemaOf(url)} CASCADE`)),
  }
  return engine
}

/** The document as JSON inside of JSON. */
function withDocument(row: ReturnType<typeof columnsOf>) {
  return { ...row, document: JSON.parse(row.document) }
}
