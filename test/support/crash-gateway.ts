/**
 * The gateway as `src/server.ts` starts it, but with leases and claims short enough for a test of crashes or clocks
 * that does not want to wait for them, nor for a platform that hangs. `LEASE` and `CLAIM` in ms.
 */
import { buildApp } from '../../src/app.ts'
import { loadConfig } from '../../src/config/config.ts'
import { defaultTools } from '../../src/platform/tools.ts'

const config = loadConfig(process.env)
const { LEASE = 600, CLAIM = 600 } = process.env
Object.assign(config.policy, { uploadLease: Number(LEASE), claim: Number(CLAIM) })
const settles = [300, 600, 600]
const timeouts = { ...defaultTools.timeouts, answer: 3_000, whole: 5_000, afterUpload: 5_000 }
const app = await buildApp(config, { logger: { level: 'warn' }, tools: { settles, timeouts } })
console.log(`listening at ${await app.server.listen({ port: config.port })}`)
process.once('SIGTERM', () => app.shutdown().then(() => process.exit(0)))
