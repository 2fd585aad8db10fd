import { randomUUID } from 'node:crypto'
import { openPair } from '../support/pair.ts'

/** Stores rows as cheaply as an engine can: an insert and an update of each, both durable, nothing else. */
export interface Commits {
  url: string
  seconds: number
  connections: number
}

process.on('message', async ({ url, seconds, connections }: Commits) => {
  const { insert, update } = await openPair(url, connections)
  const end = performance.now() + seconds * 1000
  let pairs = 0
  const work = async () => {
    for (; performance.now() < end; pairs++) {
      const id = randomUUID()
      await insert(id)
      await update(id)
    }
  }
  await Promise.all(Array.from({ length: connections }, work))
  process.send?.(pairs / seconds)
})
process.once('disconnect', () => process.exit())
