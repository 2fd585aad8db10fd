import type { DatabaseSync } from 'node:sqlite'

/**
 * The schema, one step a version; the file carries its version in `user_version`. Steps are only ever appended.
 * A video is one JSON document; what is searched by is a generated column over it, so there is one truth.
 */
const steps = [
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
]

/**
 * Brings a database to the newest version, in one transaction.
 * @throws Error when the file was written by a newer gateway
 */
export function migrate(db: DatabaseSync): void {
  if (versionOf(db) === steps.length) return
  // Another process may be at it: the version counts once nobody else can write.
  db.exec('BEGIN IMMEDIATE')
  try {
    const version = versionOf(db)
    if (version > steps.length)
      throw new Error(`the database has version ${version}, this gateway knows up to ${steps.length}`)
    for (const step of steps.slice(version)) db.exec(step)
    db.exec(`PRAGMA user_version = ${steps.length}; COMMIT`)
  } catch (error) {
    if (db.isTransaction) db.exec('ROLLBACK')
    throw error
  }
}

function versionOf(db: DatabaseSync): number {
  return (db.prepare('PRAGMA user_version').get() as { user_version: number }).user_version
}
