import type { VideoStore } from '../publication/store.ts'
import { openPostgres } from './postgres/postgres.ts'
import { openStore as openSqlite } from './sqlite.ts'

/**
 * Opens the store of `DATABASE_URL`: `postgres://…`, `sqlite:PATH` or `memory:`.
 * @param pool largest number of connections to PostgreSQL
 * @throws Error with one clear line when it cannot be used
 */
export async function openStore(url: string, pool: number): Promise<VideoStore> {
  return /^postgres(ql)?:/.test(url) ? openPostgres(url, pool) : openSqlite(url)
}
