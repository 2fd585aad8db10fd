/**
 * The gateway as `src/server.ts` starts it, but with leases and claims short enough for a test of crashes or clocks
 * that does not want to wait for them. `LEASE` and `CLAIM` in ms.
 */
import { buildApp } from '../../src/app.ts'
import { loadConfig } from '../../src/config/config.ts'

const config = loadConfig(process.env)
const { LEASE = 600, CLAIM = 600 } = process.env
Object.assign(config.policy, { uploadLease: Number(LEASE), claim: Number(CLAIM) })
const settles = [300, 600, 600]
const app = await buildApp(config, { logger: { level: 'warn' }, tools: { settles } })
console.log(`listening at ${await app.server.listen({ port: config.port })}`)
process.once('SIGTERM', () => app.shutdown().then(() => process.exit(0)))
