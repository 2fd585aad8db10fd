import { realpathSync } from 'node:fs'
import { resolve } from 'node:path'
import { describeStore } from '../open.ts'
import { readConnection } from '../postgres/connection.ts'
import { openPostgresSource, openPostgresTarget } from './postgres-side.ts'
import { addUp, type Side, type Sum, tables } from './side.ts'
import { openSqliteSource, openSqliteTarget } from './sqlite-side.ts'

/** Progress of a move. */
export interface Progress {
  step: 'copying' | 'verifying'
  done: number
  total: number
}

/** Result of a move. */
export interface Moved {
  /** Number of rows by kind. */
  rows: Record<string, number>
  /** SHA-256 over all rows, in hex. */
  digest: string
}

/**
 * Copies all rows of a store to an empty one, and compares number and digest of both before anything is committed: the
 * target has everything or nothing. Memory does not depend on the number of rows. Both stores are locked meanwhile.
 * @param from `sqlite:PATH` or `postgres://…`, as `DATABASE_URL`
 * @throws Error that says what is wrong and what to do; the target is as it was then
 */
export async function moveStore(
  from: string,
  to: string,
  report: (progress: Progress) => void,
): Promise<Moved> {
  expectUsable('FROM', from)
  expectUsable('TO', to)
  if (identityOf(from) === identityOf(to)) throw new Error('FROM and TO are the same store')
  const source = await naming('FROM', from, isPostgres(from) ? openPostgresSource : openSqliteSource)
  try {
    const target = await naming('TO', to, isPostgres(to) ? openPostgresTarget : openSqliteTarget)
    try {
      const moved = await copy(source, target, report).catch((error: Error) => {
        throw new Error(`nothing was moved: ${error.message}`, { cause: error })
      })
      await commit(target)
      return moved
    } finally {
      await target.close()
    }
  } finally {
    await source.close()
  }
}

async function copy(source: Side, target: Side, report: (progress: Progress) => void): Promise<Moved> {
  let total = 0
  for (const table of tables) total += await source.count(table)
  const moved: Moved = { rows: {}, digest: '' }
  const sums: Sum[] = []
  let done = 0
  for (const table of tables) {
    let sum: Sum = { count: 0, digest: 0n }
    for await (const given of source.rows(table)) {
      // No gateway works on the videos, so claims are not copied.
      const rows = table.name === 'videos' ? given.map((row) => ({ ...row, claimedUntil: null })) : given
      await target.add(table, rows)
      sum = addUp(sum, rows)
      done += rows.length
      report({ step: 'copying', done, total })
    }
    sums.push(sum)
    moved.rows[table.what] = sum.count
  }
  await source.expectAlone()
  done = 0
  for (const [index, table] of tables.entries()) {
    let sum: Sum = { count: 0, digest: 0n }
    for await (const rows of target.rows(table)) {
      sum = addUp(sum, rows)
      done += rows.length
      report({ step: 'verifying', done, total })
    }
    const expected = sums[index] as Sum
    if (sum.count !== expected.count || sum.digest !== expected.digest)
      throw new Error(
        `the ${table.what} of the target differ from those of the source (${sum.count} and ${expected.count} rows); report this`,
      )
  }
  moved.digest = addUp({ count: 0, digest: 0n }, [{ digests: sums.map(({ digest }) => digest.toString(16)) }])
    .digest.toString(16)
    .padStart(64, '0')
  return moved
}

/** @throws Error that says how to find out whether it was committed: the connection may break before the response */
async function commit(target: Side): Promise<void> {
  try {
    await target.commit()
  } catch (error) {
    throw new Error(
      `it is not known whether the move was committed (${(error as Error).message}): run this again; if the target is not empty then, everything was moved`,
      { cause: error },
    )
  }
}

/** @throws Error that names the argument and the store */
async function naming(argument: string, url: string, open: (url: string) => Promise<Side>): Promise<Side> {
  try {
    return await open(url)
  } catch (error) {
    const { message, code, errors } = error as NodeJS.ErrnoException & { errors?: Error[] }
    const reason = message || errors?.map((each) => each.message).join(', ') || code
    throw new Error(`${argument}: cannot use ${describeStore(url)}: ${reason}`, { cause: error })
  }
}

function expectUsable(argument: string, url: string): void {
  if (url === 'memory:')
    throw new Error(`${argument}: memory: ends with its process, so there is nothing to move`)
  if (!/^sqlite:./.test(url) && !(isPostgres(url) && URL.canParse(url)))
    throw new Error(`${argument}: expected sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE`)
  try {
    if (isPostgres(url)) readConnection(url)
  } catch (error) {
    throw new Error(`${argument}: ${(error as Error).message}`)
  }
}

/** The same for two URLs of one store. */
function identityOf(url: string): string {
  if (isPostgres(url)) {
    const { place, schema } = readConnection(url)
    return `${place} ${schema}`
  }
  const path = resolve(url.replace(/^sqlite:/, ''))
  try {
    return realpathSync(path)
  } catch {
    return path
  }
}

function isPostgres(url: string): boolean {
  return /^postgres(ql)?:\/\//.test(url)
}
