import { DatabaseSync } from 'node:sqlite'
import type { Video } from '../../src/publication/video.ts'
import { type SharedPostgres, schemaOf } from './postgres.ts'

/** A database for the gateways of a test, with what the test sees of it beside them. */
export interface TestDatabase {
  /** Its `DATABASE_URL`. */
  url: string
  /** All rows, deleted ones too. */
  rows(): Promise<Video[]>
  /** What is still to be looked for on a platform. */
  leftovers(): Promise<unknown[]>
}

export function sqliteDatabase(file: string): TestDatabase {
  function select<T>(sql: string): T[] {
    const db = new DatabaseSync(file, { readOnly: true })
    try {
      return db.prepare(sql).all() as T[]
    } finally {
      db.close()
    }
  }
  return {
    url: `sqlite:${file}`,
    rows: async () =>
      select<{ document: string }>('SELECT document FROM videos').map(({ document }) => JSON.parse(document)),
    leftovers: async () => select('SELECT * FROM leftovers'),
  }
}

/** @param url a new schema of the server, or one that is used already */
export function postgresDatabase(
  { query, newUrl }: Pick<SharedPostgres, 'query' | 'newUrl'>,
  url = newUrl(),
): TestDatabase {
  const schema = schemaOf(url)
  return {
    url,
    async rows() {
      const { rows } = await query(
        `SELECT document, platform, stage, version::int, epoch::int, next_check_at::float AS "nextCheckAt",
           bytes_received::float AS "bytesReceived" FROM ${schema}.videos`,
      )
      return rows.map(({ document, ...columns }) => ({ ...document, ...columns }))
    },
    leftovers: async () => (await query(`SELECT * FROM ${schema}.leftovers`)).rows,
  }
}
