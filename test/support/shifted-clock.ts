/**
 * To be loaded before the gateway (`node --import`). Timers do not go by the date, and are left alone.
 * `CLOCK_FILE`: the date of this process and of SQLite is as many milliseconds off as the file says, from one call to the
 * next, as if somebody had set the system's clock. `CLOCK_AHEAD`: that of the process alone is that far off, as if its
 * machine had a clock of its own.
 */
import { readFileSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'

const { CLOCK_FILE, CLOCK_AHEAD } = process.env
const systemShift = () => (CLOCK_FILE ? Number(readFileSync(CLOCK_FILE, 'utf8')) : 0)

const { now } = Date
Date.now = () => now() + systemShift() + Number(CLOCK_AHEAD ?? 0)
globalThis.Date = new Proxy(Date, {
  construct: (target, given, newTarget) =>
    Reflect.construct(target, given.length > 0 ? given : [target.now()], newTarget),
})

const { prepare } = DatabaseSync.prototype
DatabaseSync.prototype.prepare = function (this: DatabaseSync, ...args) {
  const statement = prepare.apply(this, args)
  if (!args[0].includes('unixepoch(')) return statement
  return Object.assign(statement, { get: () => ({ now: now() + systemShift() }) })
}
