import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import type { VideoStore } from '../publication/store.ts'
import { openStore as openSqlite } from './sqlite.ts'

/**
 * Opens the store of `DATABASE_URL`: `postgres://…`, `sqlite:PATH` or `memory:`.
 * @param pool largest number of connections to PostgreSQL
 * @throws Error with one clear line when it cannot be used
 */
export async function openStore(url: string, pool: number): Promise<VideoStore> {
  if (!isPostgres(url)) return openSqlite(url)
  // Only here: a start with SQLite does not load the driver.
  const { openPostgres } = await import('./postgres/postgres.ts')
  return openPostgres(url, pool)
}

/** Whether opening this store will begin with an empty database file. */
export function isNewStore(url: string): boolean {
  return url.startsWith('sqlite:') && !existsSync(fileOf(url))
}

/** Returns the name of the database for the log: without a password, and with an absolute path. */
export function describeStore(url: string): string {
  if (!isPostgres(url)) return url === 'memory:' ? url : `sqlite:${resolve(fileOf(url))}`
  const { host, pathname } = new URL(url)
  return `postgres://${host}${pathname}`
}

function isPostgres(url: string): boolean {
  return /^postgres(ql)?:/.test(url)
}

function fileOf(url: string): string {
  return url.replace(/^sqlite:/, '')
}
