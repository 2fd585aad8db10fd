import type { Change } from '../publication/store.ts'
import type { Video } from '../publication/video.ts'

/** The operations of an engine that `changeRow` uses. */
interface Rows {
  /** The time by the store's clock. */
  now(): number
  /** Reads a row, and the time at which it was read. */
  read(id: string): Promise<{ row: Video; now: number } | undefined>
  /** Writes `next` if the row still has the version of `current`. @returns whether it had */
  write(current: Video, next: Video): Promise<boolean>
}

/**
 * The compare-and-set of `VideoStore.update`, for every engine. A row from the caller is tried first, but its result
 * counts only if its version is still the stored one, also if `change` throws or returns its argument.
 * @returns the row as stored, or undefined if there is none
 */
export async function changeRow(
  { now, read, write }: Rows,
  given: string | Video,
  change: Change,
): Promise<Video | undefined> {
  if (typeof given !== 'string') {
    const next = attempt(change, given, now())
    if (next && (await write(given, next))) return next
  }
  const id = typeof given === 'string' ? given : given.id
  for (;;) {
    const found = await read(id)
    if (!found) return undefined
    const next = nextOf(change, found.row, found.now)
    if (!next) return found.row
    if (await write(found.row, next)) return next
  }
}

/** Returns the row after the change, under its next version; undefined if the change leaves it as it is. */
function nextOf(change: Change, row: Video, now: number): Video | undefined {
  const changed = change(row, now)
  return changed === row ? undefined : { ...changed, version: row.version + 1 }
}

function attempt(change: Change, row: Video, now: number): Video | undefined {
  try {
    return nextOf(change, row, now)
  } catch {
    // The row may be outdated: the stored one decides.
    return undefined
  }
}
