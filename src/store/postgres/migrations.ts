import type { Client } from 'pg'

/** First key of the project's `pg_advisory_xact_lock`; the second is that of the schema. */
const lockKey = 0x7667_6d69

/**
 * The schema of the database, one step a version. Steps are only ever appended, and each must leave the release before
 * it working: expand first, contract a release later. `$schema` stands for the schema's quoted name.
 *
 * What changes at every check, and what rows are searched by, are columns; the rest of a video is one JSON document.
 * The document is `json` and not `jsonb`, which cannot hold U+0000.
 */
const migrations = [
  `CREATE TABLE $schema.videos (
     id text COLLATE "C" PRIMARY KEY,
     platform text COLLATE "C" NOT NULL,
     stage text COLLATE "C" NOT NULL,
     reference text COLLATE "C",
     version bigint NOT NULL,
     epoch bigint NOT NULL,
     next_check_at bigint,
     checked_at bigint,
     checks bigint NOT NULL,
     bytes_received bigint NOT NULL,
     updated_at bigint NOT NULL,
     status text COLLATE "C" GENERATED ALWAYS AS (
       CASE stage
         WHEN 'awaiting-upload' THEN 'pending'
         WHEN 'uploading' THEN 'pending'
         WHEN 'processing' THEN 'pending'
         WHEN 'ready' THEN 'ready'
         WHEN 'failed' THEN 'error'
       END) STORED,
     document json NOT NULL
   ) WITH (
     fillfactor = 80,
     autovacuum_vacuum_threshold = 1000,
     autovacuum_vacuum_scale_factor = 0.01,
     autovacuum_vacuum_insert_scale_factor = 0.05,
     autovacuum_analyze_scale_factor = 0.02,
     autovacuum_vacuum_cost_delay = 1
   );
   CREATE INDEX videos_listed ON $schema.videos (platform, status, id text_pattern_ops) WHERE status IS NOT NULL;
   CREATE INDEX videos_by_reference ON $schema.videos (reference, platform, status, id text_pattern_ops)
     WHERE reference IS NOT NULL AND status IS NOT NULL;
   CREATE INDEX videos_due ON $schema.videos (platform, next_check_at)
     WHERE next_check_at IS NOT NULL AND stage <> 'ready';
   CREATE INDEX videos_ready_due ON $schema.videos (platform, (coalesce(next_check_at, 0))) WHERE stage = 'ready';

   CREATE TABLE $schema.video_counts (
     platform text COLLATE "C",
     stage text COLLATE "C",
     count bigint NOT NULL,
     PRIMARY KEY (platform, stage)
   );
   CREATE TABLE $schema.video_count_changes (
     platform text COLLATE "C" NOT NULL,
     stage text COLLATE "C" NOT NULL,
     change bigint NOT NULL
   ) WITH (autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
   CREATE FUNCTION $schema.count_video() RETURNS trigger LANGUAGE plpgsql AS $function$
     BEGIN
       IF TG_OP <> 'INSERT' THEN
         INSERT INTO $schema.video_count_changes VALUES (OLD.platform, OLD.stage, -1);
       END IF;
       IF TG_OP <> 'DELETE' THEN
         INSERT INTO $schema.video_count_changes VALUES (NEW.platform, NEW.stage, 1);
         IF NOT EXISTS (SELECT FROM $schema.video_counts c WHERE c.platform = NEW.platform AND c.stage = NEW.stage) THEN
           INSERT INTO $schema.video_counts VALUES (NEW.platform, NEW.stage, 0) ON CONFLICT DO NOTHING;
         END IF;
       END IF;
       RETURN NULL;
     END $function$;
   CREATE TRIGGER count_video AFTER INSERT OR DELETE ON $schema.videos
     FOR EACH ROW EXECUTE FUNCTION $schema.count_video();
   CREATE TRIGGER recount_video AFTER UPDATE ON $schema.videos
     FOR EACH ROW WHEN (OLD.stage <> NEW.stage OR OLD.platform <> NEW.platform)
     EXECUTE FUNCTION $schema.count_video();

   CREATE TABLE $schema.idempotency_keys (
     client text COLLATE "C",
     key text COLLATE "C",
     fingerprint text NOT NULL,
     video_id text COLLATE "C" NOT NULL,
     response text,
     created_at bigint NOT NULL,
     PRIMARY KEY (client, key)
   );
   CREATE INDEX idempotency_keys_by_age ON $schema.idempotency_keys (created_at);
   CREATE UNIQUE INDEX idempotency_keys_by_video ON $schema.idempotency_keys (video_id);

   CREATE TABLE $schema.leftovers (
     video_id text COLLATE "C",
     epoch bigint,
     looks bigint NOT NULL,
     created_at bigint NOT NULL,
     search_at bigint NOT NULL,
     PRIMARY KEY (video_id, epoch)
   ) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.01);
   CREATE INDEX leftovers_due ON $schema.leftovers (search_at);

   CREATE TABLE $schema.probe (id bigint PRIMARY KEY, filler text NOT NULL);
   ALTER TABLE $schema.probe ALTER COLUMN filler SET STORAGE EXTERNAL;`,
  "CREATE INDEX videos_deleted ON $schema.videos (updated_at) WHERE stage = 'deleted';",
  'ALTER TABLE $schema.videos ADD COLUMN claimed_until bigint;',
  `CREATE SEQUENCE $schema.event_positions;
   CREATE TABLE $schema.video_events (
     written bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
     position bigint UNIQUE,
     id text COLLATE "C" NOT NULL,
     video_id text COLLATE "C" NOT NULL,
     type text COLLATE "C" NOT NULL,
     created_at bigint NOT NULL,
     video text NOT NULL
   ) WITH (fillfactor = 90, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.01,
     autovacuum_vacuum_cost_delay = 1);
   CREATE INDEX video_events_to_place ON $schema.video_events (written) WHERE position IS NULL;
   CREATE INDEX video_events_by_video ON $schema.video_events (video_id, position);
   CREATE INDEX video_events_by_type ON $schema.video_events (type, position);`,
  `CREATE INDEX video_events_by_id ON $schema.video_events (id);
   CREATE TABLE $schema.webhook_endpoints (
     id text COLLATE "C" PRIMARY KEY,
     slot bigint NOT NULL UNIQUE,
     document text NOT NULL,
     enabled bigint NOT NULL,
     events text,
     begins_after bigint NOT NULL,
     failing_since bigint,
     version bigint NOT NULL,
     resend_since bigint,
     resend_after bigint,
     resend_up_to bigint
   );
   CREATE TABLE $schema.webhook_deliveries (
     endpoint_id text COLLATE "C",
     event_id text COLLATE "C",
     position bigint,
     type text COLLATE "C" NOT NULL,
     body text,
     status text COLLATE "C" NOT NULL,
     attempts bigint NOT NULL,
     created_at bigint NOT NULL,
     next_attempt_at bigint,
     last_attempt_at bigint,
     result text,
     PRIMARY KEY (endpoint_id, event_id)
   ) WITH (
     fillfactor = 80,
     autovacuum_vacuum_threshold = 1000,
     autovacuum_vacuum_scale_factor = 0.01,
     autovacuum_vacuum_insert_scale_factor = 0.05,
     autovacuum_analyze_scale_factor = 0.02,
     autovacuum_vacuum_cost_delay = 1
   );
   CREATE INDEX webhook_deliveries_due ON $schema.webhook_deliveries (endpoint_id, next_attempt_at)
     WHERE status = 'pending';
   CREATE INDEX webhook_deliveries_by_status ON $schema.webhook_deliveries
     (endpoint_id, status, event_id text_pattern_ops);
   CREATE INDEX webhook_deliveries_ended ON $schema.webhook_deliveries (last_attempt_at) WHERE status <> 'pending';
   CREATE TABLE $schema.webhook_fan_out (id bigint PRIMARY KEY, position bigint NOT NULL)
     WITH (fillfactor = 10, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);`,
]

/** The current schema version. */
export const schemaVersion = migrations.length

/**
 * Brings the schema to the newest version in one transaction. Several processes may do so at the same time: the others
 * wait, and find the work done.
 * @throws Error when the server is too old, its encoding is not UTF8, or the schema belongs to a newer gateway
 */
export async function migrate(client: Client, schema: string): Promise<void> {
  await expectServer(client)
  if ((await versionOf(client, schema)) === migrations.length) return
  const named = (sql: string) => sql.replaceAll('$schema', `"${schema}"`)
  await client.query('BEGIN')
  // A migration of many rows takes long, and waiting for that of another process must not fail.
  await client.query('SET LOCAL statement_timeout = 0')
  await client.query('SELECT pg_advisory_xact_lock($1, hashtext($2))', [lockKey, schema])
  const version = await versionOf(client, schema)
  if (version === 0) {
    const { rowCount } = await client.query('SELECT FROM pg_namespace WHERE nspname = $1', [schema])
    if (!rowCount) await client.query(named('CREATE SCHEMA $schema'))
    await client.query(named('CREATE TABLE $schema.schema_version (version bigint NOT NULL)'))
    await client.query(named('INSERT INTO $schema.schema_version VALUES (0)'))
  }
  for (const step of migrations.slice(version)) await client.query(named(step))
  await client.query(named('UPDATE $schema.schema_version SET version = $1'), [migrations.length])
  await client.query('COMMIT')
}

/** @returns 0 for a schema that is empty or missing */
async function versionOf(client: Client, schema: string): Promise<number> {
  // Not by `to_regclass`: it may remember what was missing before the lock was there.
  const { rows } = await client.query(
    `SELECT relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE nspname = $1 AND relname IN ('videos', 'schema_version')`,
    [schema],
  )
  const names = rows.map(({ name }) => name)
  if (names.length === 0) return 0
  if (!names.includes('schema_version'))
    throw new Error(`the schema ${schema} has a table videos of another application`)
  const { rows: versions } = await client.query(`SELECT version FROM "${schema}".schema_version`)
  const version = versions[0]?.version as number
  if (version > migrations.length)
    throw new Error(
      `the database has schema version ${version}, this gateway supports up to ${migrations.length}: run a newer gateway or restore a backup`,
    )
  return version
}

async function expectServer(client: Client): Promise<void> {
  const { rows } = await client.query(
    "SELECT current_setting('server_version_num') AS version, current_setting('server_encoding') AS encoding",
  )
  const { version, encoding } = rows[0]
  if (Number(version) < 130_000)
    throw new Error(
      `PostgreSQL ${Math.floor(Number(version) / 10_000)} is too old; 13 is the oldest that works`,
    )
  if (encoding !== 'UTF8') throw new Error(`the encoding of the database is ${encoding}; create it with UTF8`)
}
