import type { EventQuery, EventRange } from '../../publication/store.ts'
import { lookupKey } from './list.ts'
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

/**
 * Reads events by any combination of filters. A filter and the range are one comparison of rows, so that only its own
 * index serves: a plan that PostgreSQL makes for any values would walk the range and drop what does not match.
 */
export function eventStatement(
  schema: string,
  { after, upTo, video, type, limit }: EventQuery,
): { statement: Statement; values: unknown[] } {
  const values: unknown[] = [after, upTo, limit]
  const parameter = (value: string) => `$${values.push(value)}::text COLLATE "C"`
  const columns = ['position']
  const from = ['$1::bigint']
  const to = ['$2::bigint']
  // A video has few events: their type is looked at row by row.
  const [column, value] = video !== undefined ? ['video_id', lookupKey(video)] : ['type', type]
  if (value !== undefined) {
    const text = parameter(value)
    for (const [list, part] of [
      [columns, column],
      [from, text],
      [to, text],
    ] as const)
      list.unshift(part)
  }
  const rest = video !== undefined && type !== undefined ? ` AND type = ${parameter(type)}` : ''
  const key = columns.join(', ')
  const text = `SELECT position, id, type, created_at AS "createdAt", video FROM $schema.video_events
    WHERE (${key}) > (${from.join(', ')}) AND (${key}) <= (${to.join(', ')})${rest}
    ORDER BY ${key} LIMIT $3::bigint`
  const given = [video, type].map((one) => (one === undefined ? 0 : 1)).join('')
  return { statement: named(`events-${given}`, text, schema), values }
}
