/** A process that opens each store that its parent names, and responds with the error's message or null. */
import { openStore } from '../../src/store/open.ts'

process.on('message', async (url: string) => {
  let error: string | null = null
  try {
    await (await openStore(url, 2)).close()
  } catch (failure) {
    error = (failure as Error).message
  }
  process.send?.(error)
})
