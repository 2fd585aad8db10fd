import { DatabaseSync } from 'node:sqlite'
import pg from 'pg'
import { readConnection } from '../../src/store/postgres/connection.ts'

/** The cheapest durable writes of a creation that an engine has: one row, inserted and then updated. */
export interface Pair {
  insert(id: string): Promise<unknown>
  update(id: string): Promise<unknown>
}

const document = JSON.stringify({ title: 'bench', description: null, slot: { videoId: 'c1', handle: null } })

/** @param url a database of its own; a table is made in it */
export function openPair(url: string, connections: number): Promise<Pair> {
  return url.startsWith('sqlite:') ? openSqlite(url) : openPostgres(url, connections)
}

async function openSqlite(url: string): Promise<Pair> {
  const db = new DatabaseSync(`${url.replace('sqlite:', '')}-commits`)
  db.exec(
    'PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE IF NOT EXISTS v (id TEXT PRIMARY KEY, d TEXT)',
  )
  const insert = db.prepare('INSERT INTO v VALUES (?, ?)')
  const update = db.prepare('UPDATE v SET d = ? WHERE id = ?')
  return {
    insert: async (id) => insert.run(id, document),
    update: async (id) => update.run(document, id),
  }
}

async function openPostgres(url: string, connections: number): Promise<Pair> {
  const { config, schema } = readConnection(url)
  const pool = new pg.Pool({ ...config, max: connections })
  const table = `"${schema}".commits`
  await pool.query(`CREATE TABLE IF NOT EXISTS ${table} (id text PRIMARY KEY, d json)`)
  const insert = { name: 'insert', text: `INSERT INTO ${table} VALUES ($1, $2)` }
  const update = { name: 'update', text: `UPDATE ${table} SET d = $2 WHERE id = $1` }
  return {
    insert: (id) => pool.query({ ...insert, values: [id, document] }),
    update: (id) => pool.query({ ...update, values: [id, document] }),
  }
}
