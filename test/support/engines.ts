import { join } from 'node:path'
import t, { type Test } from 'tap'
import { postgresDatabase, sqliteDatabase, type TestDatabase } from './database.ts'
import { temporaryDirectory } from './gateway.ts'
import { type SharedPostgres, sharedPostgres } from './postgres.ts'

export interface Engine {
  name: string
  /** Why it cannot be tested here, or false. */
  skip: string | false
  /** A new database, which goes away with the test. */
  create(t: Test): Promise<TestDatabase>
}

const server = await sharedPostgres()
const unavailable = 'unavailable' in server && server.unavailable
t.teardown(() => 'close' in server && server.close())

/** The engines whose databases several gateways can share. */
export const engines: Engine[] = [
  {
    name: 'SQLite',
    skip: false,
    create: async (t) => sqliteDatabase(join(await temporaryDirectory(t), 'gateway.db')),
  },
  {
    name: 'PostgreSQL',
    skip: unavailable,
    create: async () => postgresDatabase(server as SharedPostgres),
  },
]
