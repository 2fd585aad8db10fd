/** The process's estimate of the database's clock. */
export interface DatabaseClock {
  /** The estimated time by the database's clock, in ms since the epoch. */
  now(): number
  /**
   * Takes over a time that the database's clock showed between two readings of `performance.now()`: when the query was
   * sent, and when its response came.
   */
  observe(shown: number, sentAt: number, receivedAt: number): void
}

/**
 * Follows the database's clock: between two responses by the monotonic clock of the process, never by its wall clock.
 * The error is at most the duration of the latest query. Every response that contains the time corrects the estimate:
 * at least once per second, because readiness is checked that often.
 */
export function createDatabaseClock(): DatabaseClock {
  /** Database's clock minus monotonic clock, in ms. */
  let offset: number | undefined

  return {
    now: () => Math.floor(performance.now() + (offset ?? performance.timeOrigin)),
    observe(shown, sentAt, receivedAt) {
      const [least, most] = [shown - receivedAt, shown + 1 - sentAt]
      // The previous estimate may be more exact than one from a slow response.
      offset = Math.min(Math.max(offset ?? least, least), most)
    },
  }
}
