import { DatabaseSync } from 'node:sqlite'
import type { Video } from '../../src/publication/video.ts'
import { type SharedPostgres, schemaOf } from './postgres.ts'

/** A database for the gateways of a test, with the test's own access to it. */
export interface TestDatabase {
  /** Its `DATABASE_URL`. */
  url: string
  /** All rows, deleted ones too. */
  rows(): Promise<Video[]>
  /** What is still to be looked for on a platform. */
  leftovers(): Promise<unknown[]>
  /** The events of a video, in their order. */
  events(videoId: string): Promise<VideoEvent[]>
}

interface VideoEvent {
  type: string
  video: Video
}

export function sqliteDatabase(file: string): TestDatabase {
  function select<T>(sql: string, ...values: string[]): T[] {
    const db = new DatabaseSync(file, { readOnly: true })
    try {
      return db.prepare(sql).all(...values) as T[]
    } finally {
      db.close()
    }
  }
  return {
    url: `sqlite:${file}`,
    rows: async () =>
      select<{ document: string }>('SELECT document FROM videos').map(({ document }) => JSON.parse(document)),
    leftovers: async () => select('SELECT * FROM leftovers'),
    events: async (id) =>
      select<{ type: string; video: string }>(
        'SELECT type, video FROM video_events WHERE videoId = ? ORDER BY position',
        id,
      ).map(({ type, video }) => ({ type, video: JSON.parse(video) })),
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
    async events(id) {
      const sql = `SELECT type, video FROM ${schema}.video_events WHERE video_id = $1 ORDER BY position, written`
      return (await query(sql, [id])).rows.map(({ type, video }) => ({ type, video: JSON.parse(video) }))
    },
  }
}
