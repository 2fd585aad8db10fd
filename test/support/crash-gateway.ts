/**
 * The gateway as `src/server.ts` starts it, but with leases and claims short enough for a test of crashes or clocks
 * that does not want to wait for them.
 */
import { buildApp } from '../../src/app.ts'
import { loadConfig } from '../../src/config/config.ts'

const config = loadConfig(process.env)
Object.assign(config.policy, { uploadLease: 600, claim: Number(process.env.CLAIM ?? 600) })
const settles = [300, 600, 600]
const app = await buildApp(config, { logger: { level: 'warn' }, tools: { settles } })
console.log(`listening at ${await app.server.listen({ port: config.port })}`)
process.once('SIGTERM', () => app.shutdown().then(() => process.exit(0)))
