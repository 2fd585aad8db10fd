import { randomUUID } from 'node:crypto'
import { DatabaseSync } from 'node:sqlite'
import pg from 'pg'
import { readConnection } from '../../src/store/postgres/connection.ts'

/** Stores rows as cheaply as an engine can: an insert and an update of each, both durable, nothing else. */
export interface Commits {
  /** A database of its own; tables are made in it. */
  url: string
  seconds: number
  connections: number
}

const document = JSON.stringify({ title: 'bench', description: null, slot: { videoId: 'c1', handle: null } })

process.on('message', async ({ url, seconds, connections }: Commits) => {
  const pair = url.startsWith('sqlite:') ? await sqlitePair(url) : await postgresPair(url, connections)
  const end = performance.now() + seconds * 1000
  let pairs = 0
  const work = async () => {
    for (; performance.now() < end; pairs++) await pair()
  }
  await Promise.all(Array.from({ length: connections }, work))
  process.send?.(pairs / seconds)
})
process.once('disconnect', () => process.exit())

async function sqlitePair(url: string): Promise<() => Promise<void>> {
  const db = new DatabaseSync(`${url.replace('sqlite:', '')}-commits`)
  db.exec(
    'PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE IF NOT EXISTS v (id TEXT PRIMARY KEY, d TEXT)',
  )
  const insert = db.prepare('INSERT INTO v VALUES (?, ?)')
  const update = db.prepare('UPDATE v SET d = ? WHERE id = ?')
  return async () => {
    const id = randomUUID()
    insert.run(id, document)
    update.run(document, id)
  }
}

async function postgresPair(url: string, connections: number): Promise<() => Promise<void>> {
  const { config, schema } = readConnection(url)
  const pool = new pg.Pool({ ...config, max: connections })
  const table = `"${schema}".commits`
  await pool.query(`CREATE TABLE IF NOT EXISTS ${table} (id text PRIMARY KEY, d json)`)
  return async () => {
    const id = randomUUID()
    await pool.query({ name: 'insert', text: `INSERT INTO ${table} VALUES ($1, $2)`, values: [id, document] })
    await pool.query({
      name: 'update',
      text: `UPDATE ${table} SET d = $2 WHERE id = $1`,
      values: [id, document],
    })
  }
}
