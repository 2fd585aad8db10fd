/** Runs work when a place is free. */
export type Places = <T>(work: () => Promise<T>) => Promise<T>

/** Runs at most `limit` pieces of work concurrently. The others wait in the order in which they came. */
export function createPlaces(limit: number): Places {
  const waiting: (() => void)[] = []
  let taken = 0
  return async (work) => {
    if (taken < limit) taken += 1
    else await new Promise<void>((resolve) => waiting.push(resolve))
    try {
      return await work()
    } finally {
      // The place goes to the next in line, or is free again.
      const next = waiting.shift()
      if (next) next()
      else taken -= 1
    }
  }
}
