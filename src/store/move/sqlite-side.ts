import { existsSync, rmSync } from 'node:fs'
import { DatabaseSync, type SQLInputValue } from 'node:sqlite'
import { videoFrom } from '../document.ts'
import { isBusy } from '../lock.ts'
import { schemaVersion } from '../migrations.ts'
import { openStore } from '../sqlite.ts'
import { batchSize, type Row, requireVersion, type Side, type Table, tables } from './side.ts'

/** Time to wait for another process to finish with the file, in ms. */
const lockWaitMs = 2_000

/** Opens `sqlite:PATH` to be read. @throws Error when it cannot be, or another process has it open */
export async function openSqliteSource(url: string): Promise<Side> {
  const path = pathOf(url)
  if (!existsSync(path)) throw new Error('there is no such file')
  const db = openAlone(path)
  try {
    const version = versionOf(db)
    if (!hasTable(db, 'videos')) throw new Error('it is not a database of the gateway')
    requireVersion(version, schemaVersion)
    db.exec('BEGIN IMMEDIATE')
  } catch (error) {
    db.close()
    throw error
  }
  return createSide(db)
}

/** Opens `sqlite:PATH` to be filled; makes it if it is missing. @throws Error when it is not empty */
export async function openSqliteTarget(url: string): Promise<Side> {
  const path = pathOf(url)
  const isNew = !existsSync(path)
  if (!isNew) {
    const existing = openAlone(path)
    try {
      expectEmpty(existing)
    } finally {
      existing.close()
    }
  }
  await openStore(url).close()
  const db = openAlone(path)
  try {
    expectEmpty(db)
    db.exec('BEGIN IMMEDIATE')
  } catch (error) {
    db.close()
    throw error
  }
  return createSide(db, isNew ? () => removeFiles(path) : undefined)
}

/** @param discard removes the database when nothing was committed */
function createSide(db: DatabaseSync, discard?: () => void): Side {
  let committed = false
  return {
    async count({ name }) {
      return (db.prepare(`SELECT count(*) AS n FROM ${name}`).get() as { n: number }).n
    },
    async *rows(table) {
      let batch: Row[] = []
      for (const row of db.prepare(`SELECT ${columnsOf(table).join(', ')} FROM ${table.name}`).iterate()) {
        batch.push(table.name === 'videos' ? { ...videoFrom(row.document as string) } : { ...row })
        if (batch.length < batchSize) continue
        yield batch
        batch = []
      }
      if (batch.length > 0) yield batch
    },
    async add(table, rows) {
      const columns = columnsOf(table)
      const marks = columns.map(() => '?').join(', ')
      const insert = db.prepare(`INSERT INTO ${table.name} (${columns.join(', ')}) VALUES (${marks})`)
      for (const row of rows) {
        const values =
          table.name === 'videos' ? [row.id, JSON.stringify(row)] : columns.map((name) => row[name])
        insert.run(...(values as SQLInputValue[]))
      }
    },
    // The lock is exclusive: no other process has had the file open.
    async expectAlone() {},
    async commit() {
      db.exec('COMMIT')
      committed = true
    },
    async close() {
      if (db.isTransaction) db.exec('ROLLBACK')
      db.close()
      if (!committed) discard?.()
    },
  }
}

function columnsOf({ name, columns }: Table): string[] {
  return name === 'videos' ? ['id', 'document'] : Object.keys(columns)
}

/**
 * Opens a file in exclusive mode: in WAL mode that fails while any other process has the database open, even one that
 * neither reads nor writes at the moment (https://sqlite.org/pragma.html#pragma_locking_mode).
 */
function openAlone(path: string): DatabaseSync {
  const db = new DatabaseSync(path, { timeout: lockWaitMs })
  try {
    db.exec('PRAGMA locking_mode = EXCLUSIVE')
    // The lock is taken by the first access, and kept.
    versionOf(db)
    db.exec('BEGIN EXCLUSIVE; COMMIT')
    return db
  } catch (error) {
    db.close()
    if (!isBusy(error)) throw error
    throw new Error('another process has it open: stop every gateway that uses it, then run this again', {
      cause: error,
    })
  }
}

function expectEmpty(db: DatabaseSync): void {
  for (const { name, what } of tables)
    if (hasTable(db, name) && db.prepare(`SELECT 1 FROM ${name} LIMIT 1`).get())
      throw new Error(`it is not empty, it has ${what}: move to a file that does not exist yet`)
}

function hasTable(db: DatabaseSync, name: string): boolean {
  return db.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?").get(name) !== undefined
}

function versionOf(db: DatabaseSync): number {
  return (db.prepare('PRAGMA user_version').get() as { user_version: number }).user_version
}

function removeFiles(path: string): void {
  for (const end of ['', '-wal', '-shm']) rmSync(path + end, { force: true })
}

function pathOf(url: string): string {
  return url.replace(/^sqlite:/, '')
}
