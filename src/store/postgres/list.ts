import type { VideoQuery } from '../../publication/store.ts'
import { named, type Statement } from './statements.ts'

const hot = ['stage', 'platform', 'version', 'epoch', 'checks'].map((name) => `v.${name}`).join(', ')

/**
 * Lists videos by any combination of filters, newest first. One index orders each pair of platform and status by id; of
 * each pair that exists, at most a page of ids is read from it, and only the page's own documents.
 *
 * The order is that of `text_pattern_ops` (`~<~`): the same, byte by byte, but one that the primary key does not have.
 * The planner assumes that videos of all kinds are mixed evenly, and would walk the primary key until it has found
 * enough: measured, it read 95,000 rows of 60,000 for a page of 100. The page's documents are read by an array of ids: a plan that is made
 * for any limit expects a tenth of all rows, for which a join would read the whole table.
 */
export function listStatement(
  schema: string,
  { status, platform, reference, before, limit }: VideoQuery,
): { statement: Statement; values: unknown[] } {
  const values: unknown[] = []
  const is = (column: string, operator: string, value: string | undefined) =>
    value === undefined ? '' : ` AND ${column} ${operator} $${values.push(value)}::text COLLATE "C"`
  const pairs =
    is('platform', '=', platform === undefined ? undefined : lookupKey(platform)) + is('status', '=', status)
  const rows =
    is('w.reference', '=', reference === undefined ? undefined : lookupKey(reference)) +
    is('w.id', '~<~', before)
  const page = `$${values.push(limit)}::bigint`
  const given = [status, platform, reference, before].map((value) => (value === undefined ? 0 : 1)).join('')
  const text = `WITH pairs AS MATERIALIZED (
      SELECT DISTINCT platform, status FROM (
        SELECT platform, CASE stage WHEN 'ready' THEN 'ready' WHEN 'failed' THEN 'error' ELSE 'pending' END AS status
        FROM $schema.video_counts
        WHERE stage IN ('awaiting-upload', 'uploading', 'processing', 'ready', 'failed')) AS kinds
      WHERE true${pairs}),
    page AS MATERIALIZED (
      SELECT newest.id FROM pairs p CROSS JOIN LATERAL (
        SELECT w.id FROM $schema.videos w WHERE w.platform = p.platform AND w.status = p.status${rows}
        ORDER BY w.id USING ~>~ LIMIT ${page}) AS newest
      ORDER BY newest.id USING ~>~ LIMIT ${page})
    SELECT v.document, ${hot}, v.next_check_at AS "nextCheckAt", v.checked_at AS "checkedAt",
      v.bytes_received AS "bytesReceived", v.updated_at AS "updatedAt", v.claimed_until AS "claimedUntil"
    FROM $schema.videos v WHERE v.id = ANY (ARRAY(SELECT id FROM page)) ORDER BY v.id USING ~>~`
  return { statement: named(`list-${given}`, text, schema), values }
}

/**
 * Returns a text of a client as a column's value: PostgreSQL's `text` accepts neither U+0000 nor lone surrogates, so
 * they are escaped as in JSON. Different texts have different keys, and an id is its own.
 */
export function lookupKey(text: string): string {
  return JSON.stringify(text).slice(1, -1)
}
