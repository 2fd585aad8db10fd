import type { DatabaseSync } from 'node:sqlite'

const endpointColumns = 'id, document, enabled, events, beginsAfter, failingSince, version'
/** Sets a delivery to a new one that is due now; `?1` is the time. */
const dueNow =
  "status = 'pending', attempts = 0, createdAt = ?1, nextAttemptAt = ?1, lastAttemptAt = NULL, result = NULL"
/** Whether the row `endpoint` asks for the type: the list is JSON. */
const asksFor = (type: string) =>
  `(endpoint.events IS NULL OR instr(endpoint.events, '"' || ${type} || '"') > 0)`
/** The position after which the next event is fanned out; NULL without enabled endpoints. It skips events without subscribers. */
const fanOutStart = `(SELECT max(coalesce((SELECT position FROM webhook_fan_out), 0), min(beginsAfter))
  FROM webhook_endpoints WHERE enabled = 1)`

/** The statements of endpoints and deliveries, by name. */
export function prepareWebhookStatements(db: DatabaseSync) {
  return {
    slots: db.prepare('SELECT slot FROM webhook_endpoints ORDER BY slot'),
    insertEndpoint: db.prepare(
      `INSERT INTO webhook_endpoints (slot, ${endpointColumns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    findEndpoint: db.prepare(`SELECT ${endpointColumns} FROM webhook_endpoints WHERE id = ?`),
    endpoints: db.prepare(`SELECT ${endpointColumns} FROM webhook_endpoints ORDER BY id`),
    updateEndpoint: db.prepare(
      `UPDATE webhook_endpoints SET document = ?2, enabled = ?3, events = ?4, beginsAfter = ?5, failingSince = ?6,
         version = ?7 WHERE id = ?1`,
    ),
    /** Adds deliveries of `?2`, with the body `?4`, for the other endpoints that subscribe to its type explicitly. */
    notify: db.prepare(
      `INSERT INTO webhook_deliveries (endpointId, eventId, type, body, status, attempts, createdAt, nextAttemptAt)
       SELECT endpoint.id, ?2, ?3, ?4, 'pending', 0, ?5, ?5 FROM webhook_endpoints endpoint
       WHERE endpoint.id <> ?1 AND endpoint.enabled = 1 AND endpoint.events IS NOT NULL AND ${asksFor('?3')}`,
    ),
    deleteEndpoint: db.prepare('DELETE FROM webhook_endpoints WHERE id = ?'),
    keepFailing: db.prepare(
      `UPDATE webhook_endpoints SET failingSince = ?2
       WHERE id = ?1 AND (failingSince IS NULL) <> (?2 IS NULL)`,
    ),

    lastPosition: db.prepare('SELECT coalesce((SELECT max(position) FROM video_events), 0) AS last'),
    /** Whether `fanOut` has something to do. */
    unsent: db.prepare(
      `SELECT EXISTS (SELECT 1 FROM video_events WHERE position > ${fanOutStart})
         OR EXISTS (SELECT 1 FROM webhook_endpoints WHERE enabled = 1 AND resendUpTo IS NOT NULL) AS any`,
    ),
    fanOutStart: db.prepare(
      `SELECT ${fanOutStart} AS position, (SELECT count(*) FROM webhook_endpoints WHERE enabled = 1) AS endpoints`,
    ),
    batch: db.prepare(
      `SELECT count(*) AS events, max(position) AS last FROM
         (SELECT position FROM video_events WHERE position > ? AND position <= ? ORDER BY position LIMIT ?)`,
    ),
    addDeliveries: db.prepare(
      `INSERT INTO webhook_deliveries (endpointId, eventId, position, type, status, attempts, createdAt, nextAttemptAt)
       SELECT endpoint.id, v.id, v.position, v.type, 'pending', 0, v.createdAt, ?1 FROM video_events v CROSS JOIN webhook_endpoints endpoint
       WHERE v.position > ?2 AND v.position <= ?3 AND endpoint.enabled = 1 AND v.position > endpoint.beginsAfter
         AND ${asksFor('v.type')}
       ON CONFLICT DO NOTHING`,
    ),
    fannedOut: db.prepare('REPLACE INTO webhook_fan_out (id, position) VALUES (1, ?)'),

    /** Only events that the fan-out has passed, so that none is sent twice to an enabled endpoint. */
    beginResend: db.prepare(
      `UPDATE webhook_endpoints SET resendSince = min(coalesce(resendSince, ?2), ?2), resendAfter = 0,
         resendUpTo = CASE WHEN enabled = 1 THEN max(beginsAfter, coalesce((SELECT position FROM webhook_fan_out), 0))
           ELSE coalesce((SELECT max(position) FROM video_events), 0) END
       WHERE id = ?1`,
    ),
    resends: db.prepare(
      `SELECT id, resendAfter, resendUpTo FROM webhook_endpoints WHERE enabled = 1 AND resendUpTo IS NOT NULL
       ORDER BY id LIMIT 2`,
    ),
    resendBatch: db.prepare(
      `INSERT INTO webhook_deliveries (endpointId, eventId, position, type, status, attempts, createdAt, nextAttemptAt)
       SELECT endpoint.id, v.id, v.position, v.type, 'pending', 0, ?1, ?1 FROM video_events v CROSS JOIN webhook_endpoints endpoint
       WHERE v.position > ?2 AND v.position <= ?3 AND endpoint.id = ?4 AND v.createdAt >= endpoint.resendSince AND ${asksFor('v.type')}
       ON CONFLICT DO UPDATE SET ${dueNow}`,
    ),
    resent: db.prepare('UPDATE webhook_endpoints SET resendAfter = ?2 WHERE id = ?1'),
    endResend: db.prepare(
      'UPDATE webhook_endpoints SET resendSince = NULL, resendAfter = NULL, resendUpTo = NULL WHERE id = ?',
    ),
    resendEvent: db.prepare(
      `INSERT INTO webhook_deliveries (endpointId, eventId, position, type, status, attempts, createdAt, nextAttemptAt)
       SELECT endpoint.id, v.id, v.position, v.type, 'pending', 0, ?1, ?1 FROM webhook_endpoints endpoint CROSS JOIN video_events v
       WHERE endpoint.id = ?2 AND v.id = ?3
       ON CONFLICT DO UPDATE SET ${dueNow} RETURNING *`,
    ),
    resendOwn: db.prepare(
      `UPDATE webhook_deliveries SET ${dueNow} WHERE endpointId = ?2 AND eventId = ?3 AND body IS NOT NULL
         AND EXISTS (SELECT 1 FROM webhook_endpoints WHERE id = ?2)
       RETURNING *`,
    ),
    addOwn: db.prepare(
      `INSERT INTO webhook_deliveries (endpointId, eventId, type, body, status, attempts, createdAt, nextAttemptAt)
       VALUES (?2, ?3, ?4, ?5, 'pending', 0, ?1, ?1) RETURNING *`,
    ),

    anyDue: db.prepare(dueQuery('1')),
    due: db.prepare(
      `SELECT due.*, v.createdAt AS eventCreatedAt, v.video FROM (${dueQuery('*, nextAttemptAt AS dueAt')}) AS due
         LEFT JOIN video_events v ON v.position = due.position AND v.id = due.eventId`,
    ),
    claim: db.prepare(
      `UPDATE webhook_deliveries SET attempts = attempts + 1, lastAttemptAt = ?2, nextAttemptAt = ?3
       WHERE endpointId = ?1 AND eventId IN (SELECT value FROM json_each(?4))`,
    ),
    settle: db.prepare(
      `UPDATE webhook_deliveries SET status = ?4, nextAttemptAt = ?5, result = ?6
       WHERE endpointId = ?1 AND eventId = ?2 AND attempts = ?3 AND status = 'pending'`,
    ),
    nextDeliveries: db.prepare(
      `SELECT id, first, last FROM (
         SELECT endpoint.id,
           (SELECT min(nextAttemptAt) FROM webhook_deliveries WHERE endpointId = endpoint.id AND status = 'pending') AS first,
           (SELECT max(nextAttemptAt) FROM webhook_deliveries WHERE endpointId = endpoint.id AND status = 'pending') AS last
         FROM webhook_endpoints endpoint WHERE endpoint.enabled = 1)
       WHERE first IS NOT NULL`,
    ),
    /** Event ids are UUIDv7, so the smallest of the pending is the oldest; and the next event of the fan-out. */
    oldestPending: db.prepare(
      `SELECT min(createdAt) AS at FROM (
         SELECT (SELECT createdAt FROM webhook_deliveries INDEXED BY webhook_deliveries_by_status
           WHERE endpointId = endpoint.id AND status = 'pending'
           ORDER BY eventId LIMIT 1) AS createdAt FROM webhook_endpoints endpoint WHERE endpoint.enabled = 1
         UNION ALL SELECT (SELECT createdAt FROM video_events WHERE position > ${fanOutStart} ORDER BY position LIMIT 1))`,
    ),

    expireDeliveries: db.prepare(
      `DELETE FROM webhook_deliveries WHERE (endpointId, eventId) IN
         (SELECT endpointId, eventId FROM webhook_deliveries WHERE status <> 'pending' AND lastAttemptAt < ?
          ORDER BY lastAttemptAt LIMIT ?)`,
    ),
    /** The endpoints that have deliveries, by one step along the primary key for each. */
    orphan: db.prepare(
      `WITH RECURSIVE owners (id) AS (
         SELECT min(endpointId) FROM webhook_deliveries
         UNION ALL
         SELECT (SELECT min(endpointId) FROM webhook_deliveries WHERE endpointId > owners.id) FROM owners
         WHERE owners.id IS NOT NULL)
       SELECT id FROM owners
       WHERE id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM webhook_endpoints endpoint WHERE endpoint.id = owners.id) LIMIT 1`,
    ),
    deleteOrphans: db.prepare(
      `DELETE FROM webhook_deliveries WHERE endpointId = ?1 AND eventId IN
         (SELECT eventId FROM webhook_deliveries WHERE endpointId = ?1 ORDER BY eventId LIMIT ?2)`,
    ),
  }
}

/**
 * Selects the due deliveries of the endpoint `?1` at `?2`, and those that are planned later than `?3`: the clock was set
 * back. Two selects and not an OR, so that each walks the index no further than the limit `?4`.
 */
function dueQuery(columns: string): string {
  const select = (when: string) =>
    `SELECT * FROM (SELECT ${columns} FROM webhook_deliveries WHERE endpointId = ?1 AND status = 'pending'
       AND nextAttemptAt ${when} AND EXISTS (SELECT 1 FROM webhook_endpoints WHERE id = ?1 AND enabled = 1)
     ORDER BY nextAttemptAt LIMIT ?4)`
  return `${select('<= ?2')} UNION ALL ${select('> ?3')} LIMIT ?4`
}

/** Returns a statement that lists deliveries, by the index of its filter. Exported for the test of its query plan. */
export function deliveriesStatement(status: boolean, before: boolean): string {
  const index = status ? ' INDEXED BY webhook_deliveries_by_status' : ''
  return `SELECT * FROM webhook_deliveries${index} WHERE endpointId = ?${status ? ' AND status = ?' : ''}${
    before ? ' AND eventId < ?' : ''
  } ORDER BY eventId DESC LIMIT ?`
}
