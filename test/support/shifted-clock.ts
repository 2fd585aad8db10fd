/**
 * To be loaded before the gateway (`node --import`): its date is as many milliseconds off as the file `CLOCK_FILE`
 * says, from one call to the next, as if somebody had set the system's clock. Timers do not go by the date, and are
 * left alone.
 */
import { readFileSync } from 'node:fs'

const { now } = Date
Date.now = () => now() + Number(readFileSync(process.env.CLOCK_FILE ?? '', 'utf8'))
globalThis.Date = new Proxy(Date, {
  construct: (target, given, newTarget) =>
    Reflect.construct(target, given.length > 0 ? given : [target.now()], newTarget),
})
