import { v7 as uuidv7 } from 'uuid'
import { eventOf, type VideoEvent } from '../../publication/events.ts'
import type {
  Along,
  Change,
  IdempotencyRecord,
  Inserted,
  Leftover,
  VideoCount,
  VideoStore,
} from '../../publication/store.ts'
import { StoreBusyError } from '../../publication/store.ts'
import type { Video } from '../../publication/video.ts'
import { changeRow } from '../change.ts'
import { createDatabaseClock, type DatabaseClock } from './clock.ts'
import { readConnection } from './connection.ts'
import { foldCounts } from './counts.ts'
import { createEventRange, eventStatement } from './events.ts'
import { listStatement, lookupKey } from './list.ts'
import { type Database, openPool, prepareDatabase } from './pool.ts'
import { valuesOf, videoOf } from './row.ts'
import { type Statements, statementsFor } from './statements.ts'
import { createWebhookStore } from './webhooks.ts'

/**
 * Opens the store of a `DATABASE_URL` that begins with `postgres://`. Any number of processes may use one database, and
 * be started at the same time. What was acknowledged survives `kill -9` and loss of power, as far as the server's
 * `fsync` and `synchronous_commit` are left on; only plans of the poller do not wait for the disk.
 *
 * Nothing lives in a connection: no session state, no locks, no transaction between two calls. So a connection that
 * breaks costs the call that used it, and a pooler in transaction mode will do.
 * @param size largest number of connections
 * @throws Error with one clear line when the database cannot be used
 */
export async function openPostgres(url: string, size: number): Promise<VideoStore> {
  let place = 'PostgreSQL'
  try {
    const connection = readConnection(url)
    place = connection.place
    await prepareDatabase(connection)
    const clock = createDatabaseClock()
    const database = openPool(connection, size, clock)
    const statements = statementsFor(connection.schema)
    await database.query(statements.clock)
    return createStore(database, clock, statements, connection.schema)
  } catch (error) {
    throw new Error(`DATABASE_URL: cannot use ${place}: ${reasonOf(error)}`, { cause: error })
  }
}

/** A host with several addresses fails with an AggregateError, whose own message is empty. */
function reasonOf(error: unknown): string {
  const { message, code, errors } = error as NodeJS.ErrnoException & { errors?: Error[] }
  return message || errors?.map((each) => each.message).join(', ') || code || 'unknown reason'
}

function createStore(
  database: Database,
  clock: DatabaseClock,
  statements: Statements,
  schema: string,
): VideoStore {
  const { query } = database
  const stopFolding = foldCounts(database, statements.foldCounts)
  /** A write failed for a reason that does not pass by itself: a full disk, a lost table, a missing right. */
  let failing = false

  const write: Database['query'] = async (statement, values) => {
    try {
      return await query(statement, values)
    } catch (error) {
      failing ||= !(error instanceof StoreBusyError)
      throw error
    }
  }

  function change(
    given: string | Video,
    decide: Change,
    set: 'update' | 'plan',
    along?: Along,
  ): Promise<Video | undefined> {
    return changeRow({ now: clock.now, read, write: setRow }, given, decide)

    async function setRow(current: Video, next: Video): Promise<boolean> {
      const values = valuesOf({ ...next, version: current.version })
      // A document that stays as it is need not be written: a long one is stored apart from its row.
      if (values[1] === valuesOf(current)[1]) values[1] = null
      const event = eventOf(current, next)
      if (along || event) {
        const { leftover, freesKey = false } = along ?? {}
        const more = [leftover?.epoch ?? null, leftover?.searchIn ?? null, freesKey]
        const told = event ? [uuidv7(), event.type, JSON.stringify(event.video)] : [null, null, null]
        return (await write(statements.updateAlong, [...values, ...more, ...told])).length > 0
      }
      // A hold that a crash of the database forgets would be given to a second holder under the same epoch.
      const name = next.epoch === current.epoch ? set : 'update'
      return (await write(statements[name], values)).length > 0
    }
  }

  async function read(id: string): Promise<{ row: Video; now: number } | undefined> {
    const [found] = await query(statements.current, [lookupKey(id)])
    if (!found) return undefined
    const { now, ...columns } = found
    return { row: videoOf(columns), now }
  }

  async function findKey(client: string, key: string): Promise<IdempotencyRecord | undefined> {
    const [row] = await query(statements.findKey, [lookupKey(client), lookupKey(key)])
    return row && { ...(row as IdempotencyRecord), client, key }
  }

  const eventRange = createEventRange(database, statements)
  return {
    ...createWebhookStore({ ...database, write }, eventRange, schema),
    now: clock.now,
    async insert(video, claim, searchIn): Promise<Inserted> {
      const values = [...valuesOf(video), searchIn ?? null]
      if (!claim) {
        await write(statements.insert, values)
        return { video }
      }
      const { client, key, fingerprint } = claim
      const more = [lookupKey(client), lookupKey(key), fingerprint, video.createdAt]
      for (;;) {
        if ((await write(statements.insertWithKey, [...values, ...more])).length > 0) return { video }
        const holder = await findKey(client, key)
        // Else the holder has freed it meanwhile.
        if (holder) return { holder }
      }
    },

    async find(id) {
      const [row] = await query(statements.find, [lookupKey(id)])
      return row && videoOf(row)
    },
    async list(asked) {
      const { statement, values } = listStatement(schema, asked)
      return (await query(statement, values)).map(videoOf)
    },

    update: (row, decide, along) => change(row, decide, 'update', along),
    plan: (row, decide) => change(row, decide, 'plan'),

    async claimDue({ platform, ready, claim, horizon, limit }) {
      const statement = ready ? statements.claimReady : statements.claimDue
      const rows = await write(statement, [platform, clock.now(), claim, horizon, limit])
      // An update returns its rows in any order.
      return rows
        .filter(({ document }) => document !== null)
        .map(({ now: _, dueAt, ...row }) => ({ video: videoOf(row), dueAt }))
        .sort((a, b) => (a.dueAt ?? 0) - (b.dueAt ?? 0))
    },
    async nextDueIn(platform) {
      const [row] = await query(statements.nextDue, [platform])
      return typeof row?.at === 'number' ? row.at - row.now : undefined
    },
    counts: async () => (await query(statements.counts)) as VideoCount[],

    expectLeftover: async (...values) => void (await write(statements.expectLeftover, values)),
    settleLeftover: async (...values) => void (await write(statements.settleLeftover, values)),
    claimLeftover: async (claim) =>
      (await write(statements.claimLeftover, [claim]))[0] as Leftover | undefined,
    planLeftover: async (...values) => void (await write(statements.planLeftover, values)),

    findKey,
    saveResponse: async (videoId, fingerprint, response) =>
      void (await write(statements.saveResponse, [videoId, fingerprint, response])),
    releaseKey: async (videoId) => void (await write(statements.releaseKey, [videoId])),
    expireKeys: async (...values) => (await write(statements.expireKeys, values)).length,
    expireDeleted: async (...values) => (await write(statements.expireDeleted, values)).length,

    eventRange,
    async events(asked) {
      const { statement, values } = eventStatement(schema, asked)
      return (await query(statement, values)).map(
        ({ video, ...event }) => ({ ...event, video: JSON.parse(video) }) as VideoEvent,
      )
    },
    expireEvents: async (...values) => (await write(statements.expireEvents, values)).length,

    async ping() {
      await query(statements.ping)
      if (!failing) return
      await query(statements.probe)
      failing = false
    },
    connections: database.connections,
    async close() {
      stopFolding()
      await database.close()
    },
  }
}
