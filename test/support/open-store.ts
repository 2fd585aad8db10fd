/** A process that opens each store it is told, and answers with the error's message, or null. */
import { openStore } from '../../src/store/sqlite.ts'

process.on('message', async (url: string) => {
  let error: string | null = null
  try {
    await openStore(url).close()
  } catch (failure) {
    error = (failure as Error).message
  }
  process.send?.(error)
})
