import type { DatabaseSync, StatementSync } from 'node:sqlite'
import type { VideoEvent } from '../publication/events.ts'
import type { EventQuery } from '../publication/store.ts'

/** Reads events by any combination of filters; each walks one index no further than its limit. */
export function createEventList(db: DatabaseSync): (query: EventQuery) => VideoEvent[] {
  const prepared = new Map<string, StatementSync>()
  return (query) => {
    const { sql, values } = eventStatement(query)
    const statement = prepared.get(sql) ?? db.prepare(sql)
    prepared.set(sql, statement)
    return statement.all(...values).map(({ video, ...event }) => ({
      ...(event as Omit<VideoEvent, 'video'>),
      video: JSON.parse(video as string),
    }))
  }
}

/** Exported for the test of its query plan. */
export function eventStatement({ after, upTo, video, type, limit }: EventQuery) {
  const filters = `${video === undefined ? '' : 'videoId = ? AND '}${type === undefined ? '' : 'type = ? AND '}`
  return {
    sql: `SELECT position, id, type, createdAt, video FROM video_events
      WHERE ${filters}position > ? AND position <= ? ORDER BY position LIMIT ?`,
    values: [...[video, type].filter((value) => value !== undefined), after, upTo, limit],
  }
}
