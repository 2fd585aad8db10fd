/**
 * The gateway as `src/server.ts` starts it, but with leases and claims short enough for a test of crashes or clocks
 * that does not want to wait for them, nor for a platform that hangs. `LEASE` and `CLAIM` in ms. `DELIVERIES` is JSON:
 * times of webhooks in ms, `retry` between two attempts among them. `NAME_SERVER` resolves the names of their endpoints.
 */
import { buildApp } from '../../src/app.ts'
import { loadConfig } from '../../src/config/config.ts'
import { defaultTools } from '../../src/platform/tools.ts'

const config = loadConfig(process.env)
const { LEASE = 600, CLAIM = 600, DELIVERIES = '{}', NAME_SERVER } = process.env
Object.assign(config.policy, { uploadLease: Number(LEASE), claim: Number(CLAIM) })
const settles = [300, 600, 600]
const timeouts = { ...defaultTools.timeouts, answer: 3_000, whole: 5_000, afterUpload: 5_000 }
const { retry, ...times } = JSON.parse(DELIVERIES)
const retryIn = (_attempts: number, retryAfter = 0) => Math.max(retry, retryAfter)
const app = await buildApp(config, {
  logger: { level: 'warn' },
  tools: { settles, timeouts },
  webhooks: { ...times, ...(retry !== undefined && { retryIn }) },
  ...(NAME_SERVER && { nameServers: [NAME_SERVER] }),
})
console.log(`listening at ${await app.server.listen({ port: config.port })}`)
process.once('SIGTERM', () => app.shutdown().then(() => process.exit(0)))
