import type { DeliveryQuery } from '../../publication/webhooks.ts'
import { clock, named, type Statement, withoutFsync } from './statements.ts'

const endpointColumns =
  'id, document, enabled, events, begins_after AS "beginsAfter", failing_since AS "failingSince", version'
const deliveryColumns = `endpoint_id AS "endpointId", event_id AS "eventId", position, type, body, status, attempts,
  created_at AS "createdAt", next_attempt_at AS "nextAttemptAt", last_attempt_at AS "lastAttemptAt", result`
const newDelivery =
  'endpoint_id, event_id, position, type, body, status, attempts, created_at, next_attempt_at'
/** Sets a delivery to a new one that is due now. */
const dueNow = `status = 'pending', attempts = 0, created_at = ${clock}, next_attempt_at = ${clock},
  last_attempt_at = NULL, result = NULL`
/** Whether a row with a column `events` asks for the type: the list is JSON. */
const asksFor = (row: string, type: string) =>
  `(${row}.events IS NULL OR strpos(${row}.events, '"' || ${type} || '"') > 0)`
const enabledEndpoints = 'SELECT FROM $schema.webhook_endpoints WHERE enabled = 1'
/** The position after which the next event is fanned out; NULL without enabled endpoints. It skips events without subscribers. */
const fanOutStart = `(SELECT GREATEST((SELECT position FROM $schema.webhook_fan_out), min(begins_after))
  FROM $schema.webhook_endpoints WHERE enabled = 1 HAVING count(*) > 0)`

/** All statements of endpoints and deliveries, by name. The rules of `statements.ts` hold here too. */
const texts = {
  endpointCount: `SELECT count(*) AS count, ${clock} AS now FROM $schema.webhook_endpoints`,
  /** Takes the first slot that is free up to the limit `$8`; nothing when there is none, or another one took it now. */
  insertEndpoint: `INSERT INTO $schema.webhook_endpoints
      (slot, id, document, enabled, events, begins_after, failing_since, version)
    SELECT slot, $1::text, $2::text, $3::bigint, $4::text, $5::bigint, $6::bigint, $7::bigint
    FROM generate_series(1, $8::bigint) AS slots (slot)
    WHERE NOT EXISTS (SELECT FROM $schema.webhook_endpoints taken WHERE taken.slot = slots.slot)
      AND (SELECT count(*) FROM $schema.webhook_endpoints) < $8::bigint
    ORDER BY slot LIMIT 1 ON CONFLICT (slot) DO NOTHING RETURNING 1`,
  findEndpoint: `SELECT ${endpointColumns} FROM $schema.webhook_endpoints WHERE id = $1`,
  currentEndpoint: `SELECT ${endpointColumns}, ${clock} AS now FROM $schema.webhook_endpoints WHERE id = $1`,
  endpoints: `SELECT ${endpointColumns} FROM $schema.webhook_endpoints ORDER BY id`,
  /** `$8` and `$9`: version and `failing_since` as read; `$10` to `$12`: the news for the others, or NULL. */
  updateEndpoint: `WITH changed AS (
      UPDATE $schema.webhook_endpoints SET document = $2::text, enabled = $3::bigint, events = $4::text,
        begins_after = $5::bigint, failing_since = $6::bigint, version = $7::bigint
      WHERE id = $1 AND version = $8::bigint AND failing_since IS NOT DISTINCT FROM $9::bigint RETURNING id),
    told AS (INSERT INTO $schema.webhook_deliveries (${newDelivery})
      SELECT other.id, $10::text, NULL, $11::text, $12::text, 'pending', 0, ${clock}, ${clock}
      FROM $schema.webhook_endpoints other CROSS JOIN changed
      WHERE $10::text IS NOT NULL AND other.id <> changed.id AND other.enabled = 1 AND other.events IS NOT NULL
        AND ${asksFor('other', '$11::text')})
    SELECT 1 FROM changed`,
  deleteEndpoint: 'DELETE FROM $schema.webhook_endpoints WHERE id = $1 RETURNING 1',
  /** `$2`: whether the last delivery failed. */
  keepFailing: `UPDATE $schema.webhook_endpoints SET failing_since = CASE WHEN $2::boolean THEN ${clock} END
    WHERE id = $1 AND (failing_since IS NULL) = $2::boolean ${withoutFsync}`,

  /** Selects the work of `fanOut`. */
  fanOutState: `SELECT (SELECT count(*) FROM $schema.webhook_endpoints WHERE enabled = 1) AS endpoints,
      (SELECT count(*) FROM $schema.webhook_endpoints WHERE enabled = 1 AND resend_up_to IS NOT NULL) AS resends,
      EXISTS (SELECT FROM $schema.webhook_fan_out)::int AS begun,
      EXISTS (SELECT FROM $schema.video_events WHERE position IS NULL)::int AS unplaced,
      coalesce((SELECT max(position) FROM $schema.video_events) > ${fanOutStart}, false)::int AS behind`,
  beginFanOut: 'INSERT INTO $schema.webhook_fan_out (id, position) VALUES (1, 0) ON CONFLICT DO NOTHING',
  /**
   * Adds the deliveries of the next events and moves the cursor, one caller at a time: a caller that waited for the lock
   * reads the current cursor. Positions become visible in their order, so that the events of an older snapshot have no
   * gap, and what it does not see yet comes after what it does.
   */
  fanOut: `WITH fan_out AS MATERIALIZED (SELECT position FROM $schema.webhook_fan_out WHERE id = 1 FOR UPDATE),
    listeners AS MATERIALIZED (SELECT id, events, begins_after FROM $schema.webhook_endpoints WHERE enabled = 1),
    start AS MATERIALIZED (
      SELECT GREATEST(fan_out.position, (SELECT min(begins_after) FROM listeners)) AS position FROM fan_out
      WHERE EXISTS (SELECT FROM listeners) ${withoutFsync}),
    batch AS MATERIALIZED (SELECT position, id, type, created_at FROM $schema.video_events
      WHERE position > (SELECT position FROM start) ORDER BY position LIMIT $1::bigint),
    added AS (INSERT INTO $schema.webhook_deliveries (${newDelivery})
      SELECT l.id, v.id, v.position, v.type, NULL, 'pending', 0, v.created_at, ${clock} FROM batch v CROSS JOIN listeners l
      WHERE v.position > l.begins_after AND ${asksFor('l', 'v.type')}
      ON CONFLICT (endpoint_id, event_id) DO NOTHING),
    progress AS MATERIALIZED (SELECT count(*) AS events, max(position) AS last FROM batch),
    moved AS (UPDATE $schema.webhook_fan_out f SET position = p.last FROM progress p
      WHERE f.id = 1 AND p.last > f.position)
    SELECT events FROM progress`,

  /** Only events that the fan-out has passed, so that none is sent twice to an enabled endpoint. */
  beginResend: `UPDATE $schema.webhook_endpoints SET resend_since = LEAST(resend_since, $2::bigint), resend_after = 0,
      resend_up_to = CASE WHEN enabled = 1
        THEN GREATEST(begins_after, (SELECT position FROM $schema.webhook_fan_out))
        ELSE coalesce((SELECT max(position) FROM $schema.video_events), 0) END
    WHERE id = $1`,
  /** Continues a resend that no other process continues at the moment. No row: there is none. */
  continueResend: `WITH turn AS MATERIALIZED (
      SELECT id, events, resend_since, resend_after, resend_up_to FROM $schema.webhook_endpoints
      WHERE enabled = 1 AND resend_up_to IS NOT NULL ${withoutFsync} ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED),
    batch AS MATERIALIZED (SELECT position, id, type, created_at FROM $schema.video_events
      WHERE position > (SELECT resend_after FROM turn) AND position <= (SELECT resend_up_to FROM turn)
      ORDER BY position LIMIT $1::bigint),
    resent AS (INSERT INTO $schema.webhook_deliveries (${newDelivery})
      SELECT turn.id, v.id, v.position, v.type, NULL, 'pending', 0, ${clock}, ${clock} FROM batch v CROSS JOIN turn
      WHERE v.created_at >= turn.resend_since AND ${asksFor('turn', 'v.type')}
      ON CONFLICT (endpoint_id, event_id) DO UPDATE SET ${dueNow}),
    progress AS MATERIALIZED (
      SELECT turn.id, count(batch.position) AS events, CASE WHEN count(batch.position) = $1::bigint THEN max(batch.position) END AS last
      FROM turn LEFT JOIN batch ON true GROUP BY turn.id),
    moved AS (UPDATE $schema.webhook_endpoints e SET resend_after = p.last,
        resend_since = CASE WHEN p.last IS NOT NULL THEN e.resend_since END,
        resend_up_to = CASE WHEN p.last IS NOT NULL THEN e.resend_up_to END
      FROM progress p WHERE e.id = p.id)
    SELECT events FROM progress`,
  resend: `WITH of_store AS (INSERT INTO $schema.webhook_deliveries (${newDelivery})
      SELECT e.id, v.id, v.position, v.type, NULL, 'pending', 0, ${clock}, ${clock}
      FROM $schema.webhook_endpoints e CROSS JOIN LATERAL (SELECT id, position, type FROM $schema.video_events
        WHERE id = $2 AND position IS NOT NULL LIMIT 1) AS v WHERE e.id = $1
      ON CONFLICT (endpoint_id, event_id) DO UPDATE SET ${dueNow} RETURNING ${deliveryColumns}),
    own AS (UPDATE $schema.webhook_deliveries SET ${dueNow} WHERE endpoint_id = $1 AND event_id = $2
        AND body IS NOT NULL AND EXISTS (SELECT FROM $schema.webhook_endpoints WHERE id = $1)
      RETURNING ${deliveryColumns})
    SELECT * FROM of_store UNION ALL SELECT * FROM own`,
  addOwn: `INSERT INTO $schema.webhook_deliveries (${newDelivery})
    VALUES ($1, $2, NULL, $3, $4, 'pending', 0, ${clock}, ${clock}) RETURNING ${deliveryColumns}`,

  /**
   * Claims due deliveries of the endpoint `$1`, for `$2` ms, up to `$3`; those that are planned further ahead than `$4` ms
   * are due too. Rows are updated by an array of ids, and events read row by row: see `claim` in `statements.ts`.
   */
  claimDeliveries: `WITH clock AS MATERIALIZED (SELECT ${clock} AS now),
    due AS MATERIALIZED (${due('<= (SELECT now FROM clock)', '$3::bigint')}),
    misplanned AS MATERIALIZED (${due(
      '> (SELECT now FROM clock) + $4::bigint',
      '$3::bigint - (SELECT count(*) FROM due)',
    )}),
    chosen AS MATERIALIZED (SELECT * FROM due UNION ALL SELECT * FROM misplanned),
    claimed AS (UPDATE $schema.webhook_deliveries SET attempts = attempts + 1,
        last_attempt_at = (SELECT now FROM clock), next_attempt_at = (SELECT now FROM clock) + $2::bigint
      WHERE endpoint_id = $1 AND event_id = ANY (ARRAY(SELECT event_id FROM chosen)) ${withoutFsync}
      RETURNING ${deliveryColumns})
    SELECT claimed.*, chosen.next_attempt_at AS "dueAt", v.created_at AS "eventCreatedAt", v.video
    FROM claimed JOIN chosen ON chosen.event_id = claimed."eventId"
    LEFT JOIN LATERAL (SELECT created_at, video FROM $schema.video_events
      WHERE position = claimed.position AND id = claimed."eventId" LIMIT 1) AS v ON true`,
  /** `$5`: ms until the next attempt, or NULL. */
  settleDelivery: `UPDATE $schema.webhook_deliveries
    SET status = $4::text, next_attempt_at = ${clock} + $5::bigint, result = $6::text
    WHERE endpoint_id = $1 AND event_id = $2 AND attempts = $3::bigint AND status = 'pending' ${withoutFsync}
    RETURNING (SELECT failing_since FROM $schema.webhook_endpoints WHERE id = $1) AS "failingSince"`,
  nextDeliveries: `SELECT e.id, ${clock} AS now, ${planned('ASC')} AS first, ${planned('DESC')} AS last
    FROM $schema.webhook_endpoints e WHERE e.enabled = 1`,
  /** Event ids are UUIDv7, so the smallest of the pending is the oldest; and the next event of the fan-out. */
  oldestPending: `SELECT ${clock} AS now, LEAST(
      (SELECT min(oldest.created_at) FROM $schema.webhook_endpoints e CROSS JOIN LATERAL (
        SELECT created_at FROM $schema.webhook_deliveries
        WHERE endpoint_id = e.id AND status = 'pending' ORDER BY event_id USING ~<~ LIMIT 1) AS oldest WHERE e.enabled = 1),
      (SELECT created_at FROM $schema.video_events WHERE position > ${fanOutStart} ORDER BY position LIMIT 1),
      (SELECT created_at FROM $schema.video_events WHERE position IS NULL AND EXISTS (${enabledEndpoints})
        ORDER BY written LIMIT 1)) AS at`,

  expireDeliveries: `DELETE FROM $schema.webhook_deliveries WHERE ctid = ANY (ARRAY(
      SELECT ctid FROM $schema.webhook_deliveries WHERE status <> 'pending'
        AND last_attempt_at < (SELECT ${clock} - $1::bigint) ${withoutFsync}
      ORDER BY last_attempt_at LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING 1`,
  /** The endpoints that have deliveries, by one step along the primary key for each. */
  orphan: `WITH RECURSIVE owners (id) AS (
      SELECT min(endpoint_id) FROM $schema.webhook_deliveries
      UNION ALL
      SELECT (SELECT min(endpoint_id) FROM $schema.webhook_deliveries WHERE endpoint_id > owners.id) FROM owners
      WHERE owners.id IS NOT NULL)
    SELECT id FROM owners WHERE id IS NOT NULL
      AND NOT EXISTS (SELECT FROM $schema.webhook_endpoints e WHERE e.id = owners.id) LIMIT 1`,
  deleteOrphans: `DELETE FROM $schema.webhook_deliveries WHERE endpoint_id = $1 AND event_id = ANY (ARRAY(
      SELECT event_id FROM $schema.webhook_deliveries WHERE endpoint_id = $1 ORDER BY event_id LIMIT $2
      FOR UPDATE SKIP LOCKED)) ${withoutFsync} RETURNING 1`,
}

export type WebhookStatements = Record<keyof typeof texts, Statement>

/** @param schema unquoted */
export function webhookStatementsFor(schema: string): WebhookStatements {
  const entries = Object.entries(texts).map(([name, text]) => [name, named(`webhook-${name}`, text, schema)])
  return Object.fromEntries(entries) as WebhookStatements
}

function due(when: string, limit: string): string {
  return `SELECT event_id, next_attempt_at FROM $schema.webhook_deliveries
      WHERE endpoint_id = $1 AND status = 'pending' AND next_attempt_at ${when}
        AND (SELECT enabled FROM $schema.webhook_endpoints WHERE id = $1) = 1
      ORDER BY next_attempt_at LIMIT ${limit} FOR UPDATE SKIP LOCKED`
}

function planned(order: 'ASC' | 'DESC'): string {
  return `(SELECT next_attempt_at FROM $schema.webhook_deliveries WHERE endpoint_id = e.id AND status = 'pending'
      AND next_attempt_at IS NOT NULL ORDER BY next_attempt_at ${order} LIMIT 1)`
}

/**
 * Lists deliveries, the newest event first. Those of one status have an order that only their own index has, as in
 * `list.ts`: by the primary key, those of other statuses would be read too.
 */
export function deliveriesStatement(
  schema: string,
  { endpointId, status, before = '~', limit }: DeliveryQuery,
): { statement: Statement; values: unknown[] } {
  const [earlier, order] =
    status === undefined
      ? ['event_id < $3::text', 'event_id DESC']
      : ['status = $4::text AND event_id ~<~ $3::text', 'event_id USING ~>~']
  const text = `SELECT ${deliveryColumns} FROM $schema.webhook_deliveries
    WHERE endpoint_id = $2::text AND ${earlier} ORDER BY ${order} LIMIT $1::bigint`
  return {
    statement: named(status === undefined ? 'webhook-deliveries' : 'webhook-deliveries-status', text, schema),
    values: [limit, endpointId, before, ...(status === undefined ? [] : [status])],
  }
}
