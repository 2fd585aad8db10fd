import type { DatabaseSync } from 'node:sqlite'

/**
 * The schema, one step a version; the file carries its version in `user_version`. Steps are only ever appended.
 * A video is one JSON document; what is searched by is a generated column over it, so there is one truth.
 */
const migrations = [
  `CREATE TABLE videos (
     id TEXT PRIMARY KEY,
     document TEXT NOT NULL,
     stage TEXT GENERATED ALWAYS AS (document ->> 'stage') VIRTUAL,
     platform TEXT GENERATED ALWAYS AS (document ->> 'platform') VIRTUAL,
     reference TEXT GENERATED ALWAYS AS (document ->> 'reference') VIRTUAL,
     next_check_at INTEGER GENERATED ALWAYS AS (document ->> 'nextCheckAt') VIRTUAL,
     version INTEGER GENERATED ALWAYS AS (document ->> 'version') VIRTUAL
   ) WITHOUT ROWID;
   CREATE INDEX videos_by_stage ON videos (stage, id);
   CREATE INDEX videos_by_reference ON videos (reference, id) WHERE reference IS NOT NULL;
   CREATE INDEX videos_due ON videos (next_check_at) WHERE next_check_at IS NOT NULL;
   CREATE TABLE idempotency_keys (
     client TEXT NOT NULL,
     key TEXT NOT NULL,
     fingerprint TEXT NOT NULL,
     videoId TEXT NOT NULL,
     response TEXT,
     createdAt INTEGER NOT NULL,
     PRIMARY KEY (client, key)
   ) WITHOUT ROWID;
   CREATE INDEX idempotency_keys_by_age ON idempotency_keys (createdAt);`,
  'CREATE UNIQUE INDEX idempotency_keys_by_video ON idempotency_keys (videoId);',
  `DROP INDEX videos_due;
   CREATE INDEX videos_due ON videos (platform, next_check_at) WHERE next_check_at IS NOT NULL AND stage <> 'ready';
   CREATE INDEX videos_ready_due ON videos (platform, coalesce(next_check_at, 0)) WHERE stage = 'ready';`,
  // The status that clients see, NULL for a hidden video. Each list then walks one index per status and platform,
  // no further than its limit: see `list.ts`. 1,000,000 videos take 8 s on an idle machine.
  `ALTER TABLE videos ADD COLUMN status TEXT GENERATED ALWAYS AS (
     CASE document ->> 'stage'
       WHEN 'awaiting-upload' THEN 'pending'
       WHEN 'uploading' THEN 'pending'
       WHEN 'processing' THEN 'pending'
       WHEN 'ready' THEN 'ready'
       WHEN 'failed' THEN 'error'
     END) VIRTUAL;
   DROP INDEX videos_by_stage;
   DROP INDEX videos_by_reference;
   CREATE INDEX videos_listed ON videos (platform, status, id) WHERE status IS NOT NULL;
   CREATE INDEX videos_by_reference ON videos (reference, platform, status, id)
     WHERE reference IS NOT NULL AND status IS NOT NULL;
   CREATE TABLE video_counts (
     platform TEXT NOT NULL,
     stage TEXT NOT NULL,
     count INTEGER NOT NULL,
     PRIMARY KEY (platform, stage)
   ) WITHOUT ROWID;
   INSERT INTO video_counts SELECT platform, stage, count(*) FROM videos GROUP BY platform, stage;
   CREATE TRIGGER videos_count_insert AFTER INSERT ON videos BEGIN
     INSERT INTO video_counts VALUES (NEW.platform, NEW.stage, 1) ON CONFLICT DO UPDATE SET count = count + 1;
   END;
   CREATE TRIGGER videos_count_update AFTER UPDATE ON videos
   WHEN OLD.stage IS NOT NEW.stage OR OLD.platform IS NOT NEW.platform BEGIN
     UPDATE video_counts SET count = count - 1 WHERE platform = OLD.platform AND stage = OLD.stage;
     INSERT INTO video_counts VALUES (NEW.platform, NEW.stage, 1) ON CONFLICT DO UPDATE SET count = count + 1;
   END;
   CREATE TRIGGER videos_count_delete AFTER DELETE ON videos BEGIN
     UPDATE video_counts SET count = count - 1 WHERE platform = OLD.platform AND stage = OLD.stage;
   END;
   CREATE TABLE probe (id INTEGER PRIMARY KEY, filler BLOB NOT NULL);`,
  `CREATE TABLE leftovers (
     videoId TEXT NOT NULL,
     epoch INTEGER NOT NULL,
     looks INTEGER NOT NULL,
     createdAt INTEGER NOT NULL,
     searchAt INTEGER NOT NULL,
     PRIMARY KEY (videoId, epoch)
   ) WITHOUT ROWID;
   CREATE INDEX leftovers_due ON leftovers (searchAt);`,
  "CREATE INDEX videos_deleted ON videos (document ->> 'updatedAt') WHERE stage = 'deleted';",
  // Without AUTOINCREMENT the position of an event that was deleted would be used again.
  `CREATE TABLE video_events (
     position INTEGER PRIMARY KEY AUTOINCREMENT,
     id TEXT NOT NULL,
     videoId TEXT NOT NULL,
     type TEXT NOT NULL,
     createdAt INTEGER NOT NULL,
     video TEXT NOT NULL
   );
   CREATE INDEX video_events_by_video ON video_events (videoId, position);
   CREATE INDEX video_events_by_type ON video_events (type, position);`,
  `CREATE INDEX video_events_by_id ON video_events (id);
   CREATE TABLE webhook_endpoints (
     id TEXT PRIMARY KEY,
     slot INTEGER NOT NULL UNIQUE,
     document TEXT NOT NULL,
     enabled INTEGER NOT NULL,
     events TEXT,
     beginsAfter INTEGER NOT NULL,
     failingSince INTEGER,
     version INTEGER NOT NULL,
     resendSince INTEGER,
     resendAfter INTEGER,
     resendUpTo INTEGER
   ) WITHOUT ROWID;
   CREATE TABLE webhook_deliveries (
     endpointId TEXT NOT NULL,
     eventId TEXT NOT NULL,
     position INTEGER,
     type TEXT NOT NULL,
     body TEXT,
     status TEXT NOT NULL,
     attempts INTEGER NOT NULL,
     createdAt INTEGER NOT NULL,
     nextAttemptAt INTEGER,
     lastAttemptAt INTEGER,
     result TEXT,
     PRIMARY KEY (endpointId, eventId)
   ) WITHOUT ROWID;
   CREATE INDEX webhook_deliveries_due ON webhook_deliveries (endpointId, nextAttemptAt) WHERE status = 'pending';
   CREATE INDEX webhook_deliveries_by_status ON webhook_deliveries (endpointId, status, eventId);
   CREATE INDEX webhook_deliveries_ended ON webhook_deliveries (lastAttemptAt) WHERE status <> 'pending';
   CREATE TABLE webhook_fan_out (id INTEGER PRIMARY KEY, position INTEGER NOT NULL);`,
]

/** The current schema version. */
export const schemaVersion = migrations.length

/**
 * Brings a database to the newest version, or to an older one that a test wants, in one transaction.
 * @throws Error when the file was written by a newer gateway
 */
export function migrate(db: DatabaseSync, target = migrations.length): void {
  if (versionOf(db) === target) return
  // Another process may be migrating: the version counts once no other process can write.
  db.exec('BEGIN IMMEDIATE')
  try {
    const version = versionOf(db)
    if (version > migrations.length)
      throw new Error(
        `the database has schema version ${version}, this gateway supports up to ${migrations.length}: run a newer gateway or restore a backup`,
      )
    for (const step of migrations.slice(version, target)) db.exec(step)
    db.exec(`PRAGMA user_version = ${target}; COMMIT`)
  } catch (error) {
    if (db.isTransaction) db.exec('ROLLBACK')
    throw error
  }
}

function versionOf(db: DatabaseSync): number {
  return (db.prepare('PRAGMA user_version').get() as { user_version: number }).user_version
}
