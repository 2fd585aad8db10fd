import type { Database } from './pool.ts'
import type { Statement } from './statements.ts'

/** Interval at which changes are added to the counts, in ms. A reader of the counts adds the rest. */
const intervalMs = 5_000
/** Changes per transaction. */
const batchSize = 5_000

/**
 * Adds up the changes of the counts now and then. Every process does, and one at a time finds something to do.
 * @returns a function that stops it
 */
export function foldCounts(database: Database, statement: Statement): () => void {
  let stopped = false
  let running = false

  async function fold(): Promise<void> {
    if (running) return
    running = true
    try {
      for (let folded = batchSize; folded === batchSize && !stopped; )
        folded = (await database.query(statement, [batchSize]))[0]?.folded
    } catch {
      // The changes stay, and count.
    } finally {
      running = false
    }
  }

  const timer = setInterval(fold, intervalMs).unref()
  return () => {
    stopped = true
    clearInterval(timer)
  }
}
