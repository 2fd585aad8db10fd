import type { DatabaseSync, StatementSync } from 'node:sqlite'
import type { VideoCount, VideoQuery } from '../publication/store.ts'
import { statusOf, type Video, visibleStages } from '../publication/video.ts'

const visible = new Set(Object.values(visibleStages).flat())

/**
 * Lists videos by any combination of filters. One index orders each pair of platform and status by id, and SQLite
 * merges these walks (`MERGE (UNION ALL)` in its query plan), so that it reads no rows beyond the limit. Measured with
 * 1,000,000 videos: 0.1 ms for every combination, also where nothing matches; `stage IN (…) AND platform = ?` over an
 * index of the stages took 1.2 s.
 * @param counts contains the pairs that exist
 */
export function createList(db: DatabaseSync, counts: () => VideoCount[]): (query: VideoQuery) => Video[] {
  const prepared = new Map<string, StatementSync>()
  return (query) => {
    const pairs = pairsOf(counts(), query)
    if (pairs.length === 0) return []
    const { sql, values } = listStatement(pairs, query)
    const statement = prepared.get(sql) ?? db.prepare(sql)
    prepared.set(sql, statement)
    return statement.all(...values).map(({ document }) => JSON.parse(document as string) as Video)
  }
}

/** Returns the pairs of platform and status that have videos and match the query. */
function pairsOf(counts: VideoCount[], { status, platform }: VideoQuery): [string, string][] {
  const pairs = counts
    .filter((row) => visible.has(row.stage))
    .map((row): [string, string] => [row.platform, statusOf(row.stage)])
    .filter((pair) => (platform ?? pair[0]) === pair[0] && (status ?? pair[1]) === pair[1])
  return [...new Map(pairs.map((pair) => [pair.join(), pair])).values()]
}

/** Exported for the test of its query plan. */
export function listStatement(pairs: [string, string][], { reference, before, limit }: VideoQuery) {
  // Ids are UUIDv7: their order is the order of creation (RFC 9562 §5.7).
  const walk = `SELECT id, document FROM videos WHERE platform = ? AND status = ?${
    reference === undefined ? '' : ' AND reference = ?'
  }${before === undefined ? '' : ' AND id < ?'}`
  const filters = [reference, before].filter((value) => value !== undefined)
  return {
    sql: `${pairs.map(() => walk).join(' UNION ALL ')} ORDER BY id DESC LIMIT ?`,
    values: [...pairs.flatMap((pair) => [...pair, ...filters]), limit],
  }
}
