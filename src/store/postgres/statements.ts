/** A statement that is prepared by its name on each connection. */
export interface Statement {
  name: string
  text: string
}

/** The columns of a video that its document lacks, under their names in `Video`. */
export const hot = `stage, platform, version, epoch, next_check_at AS "nextCheckAt", checked_at AS "checkedAt", checks,
  bytes_received AS "bytesReceived", updated_at AS "updatedAt", claimed_until AS "claimedUntil"`
/** The store's clock, in ms since the epoch. */
export const clock = 'floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint'
/**
 * Appended to a condition: the transaction of this statement does not wait for the disk. The setting ends with it, so
 * that it works behind a pooler, and costs no call of its own.
 */
export const withoutFsync = `AND set_config('synchronous_commit', 'off', true) = 'off'`
/** In the order of the statements' values. */
export const insertColumns = `id, document, platform, stage, reference, version, epoch, next_check_at, checked_at, checks, bytes_received,
    updated_at`
const keyColumns = `client, key, fingerprint, video_id AS "videoId", response, created_at AS "createdAt"`

/**
 * All statements of the store, by name. Each is a transaction of its own: what belongs together is written by one
 * statement with several parts, so there is nothing to roll back, and no connection is held between two calls.
 * Columns are named one by one, so that a later release may add some.
 */
const texts = {
  find: `SELECT document, ${hot} FROM $schema.videos WHERE id = $1`,
  clock: `SELECT ${clock} AS now`,
  current: `SELECT document, ${hot}, ${clock} AS now FROM $schema.videos WHERE id = $1`,

  /** `$13` is the ms until the search for a leftover, or NULL for no expectation. */
  insert: `WITH added AS (${insertVideo(`VALUES (${insertValues()})`)}),
    expected AS (${insertLeftover()})
    SELECT ${clock} AS now FROM added`,
  /** Adds nothing when the key is taken. */
  insertWithKey: `WITH taken AS (
      INSERT INTO $schema.idempotency_keys (client, key, fingerprint, video_id, response, created_at)
      VALUES ($14, $15, $16, $1, NULL, $17) ON CONFLICT (client, key) DO NOTHING RETURNING 1),
    added AS (${insertVideo(`SELECT ${insertValues()} WHERE EXISTS (SELECT FROM taken)`)}),
    expected AS (${insertLeftover()})
    SELECT ${clock} AS now FROM added`,

  update: `${updateVideo()} RETURNING ${clock} AS now`,
  /** As `update`, without waiting for the disk. */
  plan: `${updateVideo()} ${withoutFsync} RETURNING ${clock} AS now`,
  /** `$13` is the epoch of a leftover or NULL, `$14` the ms until its search or NULL, `$15` whether the key is freed, `$16` to `$18` an event or NULL. */
  updateAlong: `WITH changed AS (${updateVideo()} RETURNING id),
    settled AS (DELETE FROM $schema.leftovers l USING changed c
      WHERE l.video_id = c.id AND l.epoch = $13::bigint AND $14::bigint IS NULL),
    planned AS (UPDATE $schema.leftovers l SET looks = 0, search_at = ${clock} + $14::bigint FROM changed c
      WHERE l.video_id = c.id AND l.epoch = $13::bigint AND $14::bigint IS NOT NULL),
    freed AS (DELETE FROM $schema.idempotency_keys k USING changed c
      WHERE k.video_id = c.id AND k.response IS NULL AND $15::boolean),
    told AS (INSERT INTO $schema.video_events (id, video_id, type, created_at, video)
      SELECT $16::text, c.id, $17::text, ${clock}, $18::text FROM changed c WHERE $16::text IS NOT NULL)
    SELECT ${clock} AS now FROM changed`,

  claimDue: claim("stage <> 'ready'", 'next_check_at'),
  claimReady: claim("stage = 'ready'", 'coalesce(next_check_at, 0)'),
  nextDue: `WITH clock AS MATERIALIZED (SELECT ${clock} AS now)
    SELECT now, (SELECT next_check_at FROM $schema.videos
      WHERE platform = $1 AND stage <> 'ready' AND next_check_at IS NOT NULL ORDER BY next_check_at LIMIT 1) AS at
    FROM clock`,

  counts: `SELECT platform, stage, sum(count)::bigint AS count FROM (
      SELECT platform, stage, count FROM $schema.video_counts
      UNION ALL SELECT platform, stage, change FROM $schema.video_count_changes) AS all_changes
    GROUP BY platform, stage HAVING sum(count) > 0 ORDER BY platform, stage`,
  /**
   * Adds changes up to the counts. The counts themselves are rows that every transaction would wait for; so a
   * transaction only adds a change, and one process at a time adds them up.
   */
  foldCounts: `WITH turn AS (SELECT 1 WHERE pg_try_advisory_xact_lock(${0x7667_6675}, hashtext('$schema'))
      ${withoutFsync}),
    folded AS (DELETE FROM $schema.video_count_changes WHERE EXISTS (SELECT FROM turn) AND ctid = ANY (ARRAY(
      SELECT ctid FROM $schema.video_count_changes WHERE EXISTS (SELECT FROM turn) LIMIT $1))
      RETURNING platform, stage, change),
    sums AS (SELECT platform, stage, sum(change) AS change, count(*) AS changes FROM folded GROUP BY 1, 2),
    added AS (UPDATE $schema.video_counts c SET count = c.count + s.change FROM sums s
      WHERE c.platform = s.platform AND c.stage = s.stage)
    SELECT coalesce(sum(changes), 0)::bigint AS folded FROM sums`,

  findKey: `SELECT ${keyColumns} FROM $schema.idempotency_keys WHERE client = $1 AND key = $2`,
  saveResponse: `UPDATE $schema.idempotency_keys SET fingerprint = $2, response = $3, created_at = ${clock}
    WHERE video_id = $1`,
  releaseKey: 'DELETE FROM $schema.idempotency_keys WHERE video_id = $1 AND response IS NULL',
  expireKeys: `DELETE FROM $schema.idempotency_keys WHERE ctid = ANY (ARRAY(
      SELECT ctid FROM $schema.idempotency_keys k WHERE created_at < (SELECT ${clock} - $1::bigint)
        AND (response IS NOT NULL OR coalesce((SELECT stage NOT IN ('provisioning', 'uploading')
          FROM $schema.videos v WHERE v.id = k.video_id), true)) ${withoutFsync}
      ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING 1`,
  expireDeleted: `DELETE FROM $schema.videos WHERE ctid = ANY (ARRAY(
      SELECT ctid FROM $schema.videos v WHERE stage = 'deleted' AND updated_at < (SELECT ${clock} - $1::bigint)
        AND (SELECT true FROM $schema.leftovers l WHERE l.video_id = v.id LIMIT 1) IS NULL ${withoutFsync}
      ORDER BY updated_at LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING 1`,

  expectLeftover: `INSERT INTO $schema.leftovers (video_id, epoch, looks, created_at, search_at)
    VALUES ($1, $2, 0, ${clock}, ${clock} + $3::bigint) ON CONFLICT (video_id, epoch) DO UPDATE SET search_at = excluded.search_at`,
  settleLeftover: 'DELETE FROM $schema.leftovers WHERE video_id = $1 AND epoch = $2',
  claimLeftover: `UPDATE $schema.leftovers SET search_at = ${clock} + $1::bigint WHERE (video_id, epoch) IN (
      SELECT video_id, epoch FROM $schema.leftovers WHERE search_at <= (SELECT ${clock})
      ORDER BY search_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING video_id AS "videoId", epoch, looks, created_at AS "createdAt"`,
  planLeftover: `UPDATE $schema.leftovers SET looks = $3, search_at = ${clock} + $4::bigint
    WHERE video_id = $1 AND epoch = $2`,

  eventRange: `SELECT coalesce((SELECT min(position) FROM $schema.video_events), 0)::bigint AS first,
      coalesce((SELECT max(position) FROM $schema.video_events), 0)::bigint AS last,
      EXISTS (SELECT FROM $schema.video_events WHERE position IS NULL)::int AS unplaced`,
  /**
   * Gives events that are committed their positions, in batches of at most `$1`. One process at a time: the lock is held
   * until its positions are committed, so positions become visible in their order. Numbers that were drawn at the change
   * would not: transactions commit in any order. A process that had to wait finds the position of a row that the other
   * one has placed, and leaves it.
   */
  placeEvents: `WITH turn AS MATERIALIZED (SELECT 1 FROM pg_advisory_xact_lock(${0x7667_6576}, hashtext('$schema'))),
    waiting AS MATERIALIZED (SELECT written FROM $schema.video_events
      WHERE position IS NULL AND EXISTS (SELECT FROM turn) ORDER BY written LIMIT $1::bigint FOR UPDATE),
    placed AS MATERIALIZED (SELECT written, nextval('$schema.event_positions') AS position FROM waiting)
    UPDATE $schema.video_events e SET position = p.position FROM placed p
    WHERE e.written = p.written AND e.position IS NULL RETURNING 1`,
  expireEvents: `DELETE FROM $schema.video_events WHERE position = ANY (ARRAY(
      SELECT position FROM $schema.video_events WHERE position IS NOT NULL ORDER BY position LIMIT $2))
    AND created_at < (SELECT ${clock} - $1::bigint)
    AND position < (SELECT max(position) FROM $schema.video_events) ${withoutFsync} RETURNING 1`,

  ping: `SELECT min(id), ${clock} AS now FROM $schema.videos`,
  /** A write of the size of the largest video. */
  probe: `INSERT INTO $schema.probe VALUES (1, repeat('x', 65536))
    ON CONFLICT (id) DO UPDATE SET filler = excluded.filler`,
}

export type Statements = Record<keyof typeof texts, Statement>

/** @param schema unquoted */
export function statementsFor(schema: string): Statements {
  const entries = Object.entries(texts).map(([name, text]) => [name, named(name, text, schema)])
  return Object.fromEntries(entries) as Statements
}

export function named(name: string, text: string, schema: string): Statement {
  return { name, text: text.replaceAll('$schema', `"${schema}"`) }
}

/** @param rows what to insert */
function insertVideo(rows: string): string {
  return `INSERT INTO $schema.videos (${insertColumns}) ${rows} RETURNING id, epoch`
}

/** The expectation of the video that the part `added` has added. */
function insertLeftover(): string {
  return `INSERT INTO $schema.leftovers (video_id, epoch, looks, created_at, search_at)
      SELECT id, epoch, 0, ${clock}, ${clock} + $13::bigint FROM added WHERE $13::bigint IS NOT NULL`
}

function insertValues(): string {
  return `$1::text, $2::json, $3::text, $4::text, $5::text, $6::bigint, $7::bigint, $8::bigint, $9::bigint,
    $10::bigint, $11::bigint, $12::bigint`
}

/** Has the parameters of `insert`; the version is the expected one, and NULL leaves the document unchanged. */
function updateVideo(): string {
  return `UPDATE $schema.videos SET document = coalesce($2::json, document), platform = $3, stage = $4, reference = $5,
      version = $6::bigint + 1, epoch = $7, next_check_at = $8, checked_at = $9, checks = $10, bytes_received = $11,
      updated_at = $12
    WHERE id = $1 AND version = $6::bigint`
}

/**
 * Claims the rows of a platform that are due, each by the index of `videos_due` or `videos_ready_due`: `$1` platform,
 * `$2` the time that the process expects the clock to show, `$3` duration of the claim, `$4` horizon, `$5` limit. A clock
 * that was changed a moment ago makes no row due before the process knows of it. `SKIP LOCKED`: claimers never wait for
 * each other. Waits for the disk: a claim that the database forgets in a crash would give its epoch to a second holder.
 *
 * Rows are updated by an array of ids, not by a join with `chosen`: a plan that is made for any limit expects a tenth of
 * all rows to be chosen, and the planner then reads the whole table for the join (300 ms of 100,000 pending videos).
 * @returns the time in every row; a row without an id says that nothing was due
 */
function claim(stages: string, time: string): string {
  const select = (when: string, limit: string) =>
    `SELECT id, next_check_at FROM $schema.videos WHERE platform = $1 AND ${stages} AND ${time} ${when}
      ORDER BY ${time} LIMIT ${limit} FOR UPDATE SKIP LOCKED`
  const [least, most] = ['LEAST', 'GREATEST'].map(
    (either) => `(SELECT ${either}(now, $2::bigint) FROM clock)`,
  )
  return `WITH clock AS MATERIALIZED (SELECT ${clock} AS now),
    due AS MATERIALIZED (${select(`<= ${least}`, '$5::bigint')}),
    misplanned AS MATERIALIZED (${select(`> ${most} + $4::bigint`, '$5::bigint - (SELECT count(*) FROM due)')}),
    chosen AS (SELECT * FROM due UNION ALL SELECT * FROM misplanned),
    claimed AS (
      UPDATE $schema.videos v
      SET next_check_at = (SELECT now FROM clock) + $3::bigint, claimed_until = (SELECT now FROM clock) + $3::bigint,
        epoch = v.epoch + 1, version = v.version + 1
      WHERE v.id = ANY (ARRAY(SELECT id FROM chosen))
      RETURNING v.id, v.document, v.stage, v.platform, v.version, v.epoch, v.next_check_at AS "nextCheckAt",
        v.checked_at AS "checkedAt", v.checks, v.bytes_received AS "bytesReceived", v.updated_at AS "updatedAt",
        v.claimed_until AS "claimedUntil")
    SELECT clock.now, claimed.*, chosen.next_check_at AS "dueAt"
    FROM clock LEFT JOIN (claimed JOIN chosen USING (id)) ON true`
}
