import type { EventQuery, EventRange } from '../../publication/store.ts'
import type { Database } from './pool.ts'
import { named, type Statement, type Statements } from './statements.ts'

/** Events that get their position in one transaction. */
const batchSize = 500

/**
 * Returns the range of events, after it has placed those that wait for a position. Callers share the work: one call is in
 * progress at a time, and one more for those that came after its start, whose own events it may have missed.
 */
export function createEventRange(
  { query }: Database,
  { eventRange, placeEvents }: Statements,
): () => Promise<EventRange> {
  let current: Promise<EventRange> | undefined
  let next: Promise<EventRange> | undefined

  async function look(): Promise<EventRange> {
    let [row] = await query(eventRange)
    if (row?.unplaced) {
      // Those that are written meanwhile may wait.
      while ((await query(placeEvents, [batchSize])).length === batchSize);
      row = (await query(eventRange))[0]
    }
    return { first: row?.first, last: row?.last }
  }

  function begin(): Promise<EventRange> {
    const looking = look().finally(() => {
      if (current === looking) current = undefined
    })
    current = looking
    return looking
  }

  return () => {
    if (!current) return begin()
    next ??= current
      .catch(() => {})
      .then(() => {
        next = undefined
        return begin()
      })
    return next
  }
}

/** Reads events by any combination of filters; each walks one index no further than its limit. */
export function eventStatement(
  schema: string,
  { after, upTo, video, type, limit }: EventQuery,
): { statement: Statement; values: unknown[] } {
  const values: unknown[] = [after, upTo, limit]
  const is = (column: string, value: string | undefined) =>
    value === undefined ? '' : ` AND ${column} = $${values.push(value)}::text COLLATE "C"`
  const text = `SELECT position, id, type, created_at AS "createdAt", video FROM $schema.video_events
    WHERE position > $1::bigint AND position <= $2::bigint${is('video_id', video)}${is('type', type)}
    ORDER BY position LIMIT $3::bigint`
  const given = [video, type].map((value) => (value === undefined ? 0 : 1)).join('')
  return { statement: named(`events-${given}`, text, schema), values }
}
