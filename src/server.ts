import { existsSync } from 'node:fs'
import { enableCompileCache } from 'node:module'
import { fileURLToPath } from 'node:url'
import type { App } from './app.ts'
import type { Config } from './config/config.ts'

// Keeps the stripped and compiled modules for the next start; where the directory cannot be written, nothing is
// kept. What is to profit from it is imported below this line.
enableCompileCache(fileURLToPath(new URL('../node_modules/.cache/compile', import.meta.url)))

const stopSignals = ['SIGTERM', 'SIGINT'] as const
/** Ctrl+C reaches the process from the terminal and once more from npm. Milliseconds. */
const sameSignalMs = 1_000

try {
  loadEnvFile()
  await start()
} catch (error) {
  console.error(`video-gateway cannot start: ${(error as Error).message}`)
  process.exit(1)
}

async function start(): Promise<void> {
  const [{ buildApp }, { loadConfig }, { createLogOutput }, { default: closeWithGrace }] = await Promise.all([
    import('./app.ts'),
    import('./config/config.ts'),
    import('./observability/log-output.ts'),
    import('close-with-grace'),
  ])
  const output = createLogOutput(1)
  const say = (line: string) => output.write(`${line}\n`)
  const stopSandbox = await ensurePlatform(say)
  const config = loadConfig(process.env)
  const key = await ensureCredentials(config)
  const telemetry = config.tracesEndpoint ? await import('./observability/telemetry.ts') : undefined
  const app = await buildApp(config, {
    logger: { level: config.logLevel, stream: output },
    ...(telemetry && { traceOf: telemetry.spanOf }),
  })
  const stopTelemetry = telemetry?.startTelemetry(app.server.log)
  const cut = new AbortController()
  const options = { delay: config.shutdownTimeout + 10_000, logger: app.server.log, skip: [...stopSignals] }
  const { close } = closeWithGrace(options, async ({ err }) => {
    if (err) app.server.log.fatal({ err }, 'giving up')
    await app.shutdown(cut.signal)
    await stopTelemetry?.()
    stopSandbox?.()
    await output.flush()
  })
  onStopSignal(close, () => cut.abort())
  await listen(app, config)
  app.inspect()
  if (key) say(`No API_KEYS are configured: this key works until the process ends: ${key}`)
}

/** The first signal stops the process; a later one aborts what it still waits for. */
function onStopSignal(stop: () => void, cut: () => void): void {
  let stoppedAt: number | undefined
  const onSignal = () => {
    if (stoppedAt === undefined) {
      stoppedAt = performance.now()
      stop()
    } else if (performance.now() - stoppedAt > sameSignalMs) cut()
  }
  for (const signal of stopSignals) process.on(signal, onSignal)
}

/** @throws Error when there is a file `.env` in the working directory that cannot be read */
function loadEnvFile(): void {
  try {
    process.loadEnvFile()
  } catch {
    if (existsSync('.env')) throw new Error('.env: cannot be read')
  }
}

async function listen({ server }: App, { host, port }: Config): Promise<void> {
  const listenTextResolver = (address: string) => `listening at ${address}`
  await server.listen({ host, port, listenTextResolver }).catch(({ code }: NodeJS.ErrnoException) => {
    if (code === 'EADDRINUSE') throw new Error(`PORT: ${port} is in use`)
    if (code === 'EACCES') throw new Error(`PORT: ${port} needs more rights than this user has`)
    throw new Error(`HOST: ${host} cannot be listened on (${code})`)
  })
}

/**
 * Outside production a gateway without a platform gets the embedded sandbox. Its videos end with it, so the store does
 * too, unless one is configured.
 */
async function ensurePlatform(say: (line: string) => void): Promise<(() => void) | undefined> {
  const { NODE_ENV, PLATFORM, PLATFORMS } = process.env
  if (PLATFORM || PLATFORMS || NODE_ENV === 'production') return undefined
  const { startEmbeddedSandbox } = await import('../sandbox/embedded.ts')
  const sandbox = await startEmbeddedSandbox()
  Object.assign(process.env, sandbox.env)
  say(`No PLATFORM is configured: publishing on the embedded sandbox platform at ${sandbox.url}`)
  const { DATABASE_URL } = process.env
  process.env.DATABASE_URL = DATABASE_URL || 'memory:'
  say(
    process.env.DATABASE_URL === 'memory:'
      ? 'The sandbox forgets its videos when it ends, so the store is in memory and ends with it too.'
      : 'The sandbox forgets its videos when it ends, but DATABASE_URL is configured: after a restart they turn `error`.',
  )
  return sandbox.stop
}

/** Outside production a gateway that nobody could call gets a key for its lifetime. */
async function ensureCredentials(config: Config): Promise<string | undefined> {
  if (config.apiKeys.length || config.oauthClients.length || config.externalIssuer) return undefined
  const { allScopes, generateSecret, hashSecret } = await import('./auth/credentials.ts')
  const key = generateSecret('vgk_')
  config.apiKeys.push({ name: 'development', secretHash: hashSecret(key), scopes: [...allScopes] })
  return key
}
