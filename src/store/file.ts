import { realpathSync, type Stats, statSync } from 'node:fs'
import { resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { pathToFileURL } from 'node:url'

/** SQLite's result code for a damaged database (https://sqlite.org/rescode.html). */
const SQLITE_CORRUPT = 11

/** The files of the database are no longer the ones that were opened. */
export class StoreFileError extends Error {}

/**
 * Remembers which files the connection has open, and returns a check that they are still at their paths. SQLite goes
 * on writing to a file that was deleted or renamed, where no other process finds the data again. The check costs
 * three calls of `stat`, so it runs before each write that is
 * acknowledged. The database comes back when the same files do.
 *
 * The file must not be opened with `node:fs`: closing it would release the locks that SQLite holds on it
 * (https://sqlite.org/howtocorrupt.html, 2.2).
 * @param path as configured: may be relative, may be a symbolic link
 * @returns a function that throws StoreFileError
 */
export function watchFiles(db: DatabaseSync, path: string): () => void {
  const main = resolve(path)
  const real = realpathSync(main)
  const opened = look(main)
  // SQLite creates both at the first read and keeps them as long as a connection is open (https://sqlite.org/wal.html).
  const companions = [`${real}-wal`, `${real}-shm`].map((file) => ({ file, opened: look(file) }))
  const atOpening = rawSchemaOf(real)
  const firstSchema = typeof atOpening === 'number' ? atOpening : 0
  let { size, mtimeMs } = opened

  function look(file: string): Stats {
    try {
      return statSync(file)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      const happened =
        code === 'ENOENT' || code === 'ENOTDIR' ? 'was deleted or moved' : `cannot be found (${code})`
      throw new StoreFileError(`${nameOf(file)} ${happened}; put it back, or restore the backup`)
    }
  }

  function nameOf(file: string): string {
    if (file.endsWith('-wal')) return 'the write-ahead log of the database'
    return file.endsWith('-shm') ? 'the shared memory of the database' : 'the database file'
  }

  function expectSame(file: string, before: Stats): Stats {
    const now = look(file)
    if (now.ino === before.ino && now.dev === before.dev) return now
    throw new StoreFileError(
      `${nameOf(file)} was replaced; put the old one back, or restart the gateway to use the new one`,
    )
  }

  /** Only checkpoints write to the file itself: they keep it whole and do not go back to an older schema. */
  function expectWhole(now: Stats): void {
    const schema = rawSchemaOf(real)
    // The checkpoint of another process writes the header first, with the size that the file is about to have.
    if (schema === 'incomplete' && now.size >= size) return
    if (typeof schema !== 'number' || schema < firstSchema || schema > schemaOf(db)) {
      throw new StoreFileError(
        'the database file was overwritten; stop the gateway and restore the backup again, without -wal and -shm files',
      )
    }
    size = now.size
    mtimeMs = now.mtimeMs
  }

  return () => {
    const now = expectSame(main, opened)
    for (const companion of companions) expectSame(companion.file, companion.opened)
    if (now.size !== size || now.mtimeMs !== mtimeMs) expectWhole(now)
  }
}

/** SQLite's own count of schema changes. A copy made with `VACUUM INTO` or a backup has another one. */
function schemaOf(db: DatabaseSync): number {
  return (db.prepare('PRAGMA schema_version').get() as { schema_version: number }).schema_version
}

/**
 * As the file alone has it, without the write-ahead log; `incomplete` when pages are missing, `unreadable` when it is
 * not a database.
 */
function rawSchemaOf(file: string): number | 'incomplete' | 'unreadable' {
  const url = pathToFileURL(file)
  url.searchParams.set('immutable', '1')
  let raw: DatabaseSync | undefined
  try {
    raw = new DatabaseSync(url, { readOnly: true })
    raw.prepare('SELECT count(*) FROM sqlite_schema').get()
    return schemaOf(raw)
  } catch (error) {
    const { errcode = 0 } = error as { errcode?: number }
    return (errcode & 0xff) === SQLITE_CORRUPT ? 'incomplete' : 'unreadable'
  } finally {
    raw?.close()
  }
}
