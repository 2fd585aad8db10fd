import type { DatabaseSync } from 'node:sqlite'

/** The statements of a connection, by name. */
export function prepareStatements(db: DatabaseSync) {
  return {
    // The system's clock, as SQLite reads it.
    now: db.prepare("SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER) AS now"),
    insert: db.prepare('INSERT INTO videos (id, document) VALUES (?, ?)'),
    find: db.prepare('SELECT document FROM videos WHERE id = ?'),
    update: db.prepare('UPDATE videos SET document = ? WHERE id = ? AND version = ?'),
    due: db.prepare(dueQueries[0]),
    readyDue: db.prepare(dueQueries[1]),
    claim: db.prepare(
      `UPDATE videos SET document = json_set(document, '$.nextCheckAt', ?1, '$.claimedUntil', ?1, '$.version', version + 1,
         '$.epoch', coalesce(document ->> 'epoch', 0) + 1)
       WHERE id IN (SELECT value FROM json_each(?2))`,
    ),
    nextDue: db.prepare(
      `SELECT min(next_check_at) AS at FROM videos
       WHERE platform = ? AND stage <> 'ready' AND next_check_at IS NOT NULL`,
    ),
    counts: db.prepare('SELECT platform, stage, count FROM video_counts WHERE count > 0'),
    insertKey: db.prepare('INSERT INTO idempotency_keys VALUES (?, ?, ?, ?, ?, ?)'),
    findKey: db.prepare('SELECT * FROM idempotency_keys WHERE client = ? AND key = ?'),
    saveResponse: db.prepare(
      'UPDATE idempotency_keys SET fingerprint = ?, response = ?, createdAt = ? WHERE videoId = ?',
    ),
    releaseKey: db.prepare('DELETE FROM idempotency_keys WHERE videoId = ? AND response IS NULL'),
    expireKeys: db.prepare(
      `DELETE FROM idempotency_keys WHERE (client, key) IN
       (SELECT client, key FROM idempotency_keys k WHERE createdAt < ?
          AND (response IS NOT NULL OR NOT EXISTS (SELECT 1 FROM videos v
            WHERE v.id = k.videoId AND v.stage IN ('provisioning', 'uploading')))
        ORDER BY createdAt LIMIT ?)`,
    ),
    expireDeleted: db.prepare(
      `DELETE FROM videos WHERE id IN
       (SELECT id FROM videos v WHERE stage = 'deleted' AND document ->> 'updatedAt' < ?
          AND NOT EXISTS (SELECT 1 FROM leftovers l WHERE l.videoId = v.id)
        ORDER BY document ->> 'updatedAt' LIMIT ?)`,
    ),
    expectLeftover: db.prepare(
      `INSERT INTO leftovers (videoId, epoch, looks, createdAt, searchAt) VALUES (?, ?, 0, ?, ?)
       ON CONFLICT DO UPDATE SET searchAt = excluded.searchAt`,
    ),
    settleLeftover: db.prepare('DELETE FROM leftovers WHERE videoId = ? AND epoch = ?'),
    leftoverDue: db.prepare('SELECT 1 FROM leftovers WHERE searchAt <= ? LIMIT 1'),
    claimLeftover: db.prepare(
      `UPDATE leftovers SET searchAt = ?2 WHERE (videoId, epoch) IN
         (SELECT videoId, epoch FROM leftovers WHERE searchAt <= ?1 ORDER BY searchAt LIMIT 1)
       RETURNING videoId, epoch, looks, createdAt`,
    ),
    planLeftover: db.prepare('UPDATE leftovers SET looks = ?, searchAt = ? WHERE videoId = ? AND epoch = ?'),
    insertEvent: db.prepare(
      'INSERT INTO video_events (id, videoId, type, createdAt, video) VALUES (?, ?, ?, ?, ?)',
    ),
    eventRange: db.prepare(
      `SELECT coalesce((SELECT min(position) FROM video_events), 0) AS first,
         coalesce((SELECT max(position) FROM video_events), 0) AS last`,
    ),
    expireEvents: db.prepare(
      `DELETE FROM video_events WHERE position IN
         (SELECT position FROM video_events WHERE position > 0 ORDER BY position LIMIT ?2)
       AND createdAt < ?1 AND position < (SELECT max(position) FROM video_events)`,
    ),
    ping: db.prepare('SELECT min(id) FROM videos'),
    probe: db.prepare('REPLACE INTO probe VALUES (1, zeroblob(?))'),
  }
}

/** Of videos that are not ready, and of those that are. Exported for the test of their query plans. */
export const dueQueries = [
  dueQuery("stage <> 'ready'", 'next_check_at'),
  dueQuery("stage = 'ready'", 'coalesce(next_check_at, 0)'),
] as const

/**
 * Selects the rows of a platform that are due, by the index of `videos_due` or `videos_ready_due`. Two selects and not
 * an OR, so that each walks the index no further than its limit.
 */
function dueQuery(stages: string, time: string): string {
  const select = (when: string) =>
    `SELECT document FROM (SELECT document FROM videos WHERE platform = ?1 AND ${stages} AND ${time} ${when}
     ORDER BY ${time} LIMIT ?4)`
  return `${select('<= ?2')} UNION ALL ${select('> ?3')} LIMIT ?4`
}
