import { GatewayError } from '../errors.ts'
import { StoreBusyError, type VideoStore } from '../publication/store.ts'
import { StoreFileError } from './file.ts'
import type { Lock } from './lock.ts'

/** A lock that is held this long without a write by its holder makes the store unusable, in ms. */
const longestHoldMs = 2_000

/**
 * Turns what SQLite throws (locked, full, gone) into the one error that callers know. After a failure `ping` tries
 * a real write of the size of a video, so that readiness comes back when writing does.
 */
export function mapStoreErrors(
  store: VideoStore,
  lock: Lock,
  probeWrite: () => Promise<unknown>,
): VideoStore {
  let failing = false
  const entries = Object.entries(store).map(([name, method]) => [
    name,
    async (...args: unknown[]) => {
      try {
        const result = await (method as (...args: unknown[]) => Promise<unknown>)(...args)
        if (name === 'ping' && (failing || lock.heldFor() > 0)) {
          await probeWrite()
          failing = false
        }
        return result
      } catch (error) {
        // Reads fail like this too, when the lock is an exclusive one.
        const busy = error instanceof StoreBusyError ? error : lock.heldBy(error)
        if (busy && name === 'ping' && !failing && lock.heldFor() < longestHoldMs) return
        if (busy) throw busy
        const sqlite = (error as NodeJS.ErrnoException).code === 'ERR_SQLITE_ERROR'
        if (!sqlite && !(error instanceof StoreFileError)) throw error
        failing = true
        throw new GatewayError('store-unavailable', undefined, { retryAfter: 5, cause: error })
      }
    },
  ])
  return { ...(Object.fromEntries(entries) as VideoStore), now: store.now, connections: store.connections }
}
