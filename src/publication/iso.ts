/** Returns a time as clients see it: ISO 8601 in UTC; null for none. @param time in ms since the epoch */
export function iso(time: number): string
export function iso(time: number | null): string | null
export function iso(time: number | null): string | null {
  return time === null ? null : new Date(time).toISOString()
}
