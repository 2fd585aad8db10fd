import { enableCompileCache } from 'node:module'
import { fileURLToPath } from 'node:url'
import type { App } from './app.ts'
import type { Config } from './config/config.ts'
import { readEnvFile } from './config/env-file.ts'
import type { reload as Reload } from './config/reload.ts'

// Keeps the stripped and compiled modules for the next start; if the directory is not writable, nothing is
// kept. Modules that should benefit are imported below this line.
enableCompileCache(fileURLToPath(new URL('../node_modules/.cache/compile', import.meta.url)))

const stopSignals = ['SIGTERM', 'SIGINT'] as const
/** Ctrl+C reaches the process from the terminal and once more from npm. Milliseconds. */
const sameSignalMs = 1_000

/** Until there is something to shut down. */
function stopEarly(): void {
  console.log('stopped before the gateway was listening')
  process.exit(0)
}
for (const signal of stopSignals) process.on(signal, stopEarly)

/** Variables of the process, which take precedence over the file `.env`. */
const given = { ...process.env }
/** Set by the embedded sandbox, if there is one. */
let embedded: NodeJS.ProcessEnv = {}

try {
  Object.assign(process.env, { ...readEnvFile(), ...given })
  await start()
} catch (error) {
  console.error(`video-gateway cannot start: ${(error as Error).message}`)
  process.exit(1)
}

async function start(): Promise<void> {
  const [{ buildApp }, { loadConfig }, { reload }, { createLogOutput }, { default: closeWithGrace }] =
    await Promise.all([
      import('./app.ts'),
      import('./config/config.ts'),
      import('./config/reload.ts'),
      import('./observability/log-output.ts'),
      import('close-with-grace'),
    ])
  const output = createLogOutput(1)
  const say = (line: string) => output.write(`${line}\n`)
  const sandbox = await ensurePlatform(say)
  const config = loadConfig(process.env)
  const key = await ensureCredentials(config)
  const telemetry = config.tracesEndpoint ? await import('./observability/telemetry.ts') : undefined
  const app = await buildApp(config, {
    logger: { level: config.logLevel, stream: output },
    ...(telemetry && { traceOf: telemetry.startRequestSpan }),
  })
  const stopTelemetry = telemetry?.startTelemetry(app.server.log)
  const cut = new AbortController()
  const options = { delay: config.shutdownTimeout + 10_000, logger: app.server.log, skip: ownSignals() }
  const { close } = closeWithGrace(options, async ({ err }) => {
    if (err) app.server.log.fatal({ err }, 'fatal error, shutting down')
    await app.shutdown(cut.signal)
    await stopTelemetry?.()
    sandbox?.stop()
    await output.flush()
  })
  if (ownSignals().includes('SIGHUP')) process.on('SIGHUP', createReload(app, reload))
  await listen(app, config)
  onStopSignal(close, () => cut.abort())
  await sandbox?.notify(
    app.server.listeningOrigin.replace('[::]', 'localhost').replace('0.0.0.0', 'localhost'),
  )
  app.inspect()
  if (key) say(`No API_KEYS are configured: this key works until the process ends: ${key}`)
}

/** Signals that `close-with-grace` must leave alone. In a terminal SIGHUP means that the terminal was closed. */
function ownSignals(): ('SIGTERM' | 'SIGINT' | 'SIGHUP')[] {
  return process.stdin.isTTY ? [...stopSignals] : [...stopSignals, 'SIGHUP']
}

/** Reads the file `.env` again, applies the changes that it can, and logs which variables changed and which did not. */
function createReload({ server: { log }, adopt }: App, reload: typeof Reload): () => void {
  let env = { ...process.env }
  return () => {
    try {
      // The variables of an embedded sandbox are not in the file: they stay.
      const result = reload(env, { ...readEnvFile(), ...given, ...embedded }, adopt)
      env = result.env
      for (const { variables, reason } of result.rejected)
        log.error({ variables, reason }, 'variables are invalid: they stay as they were')
      if (result.needRestart.length > 0)
        log.warn({ variables: result.needRestart }, 'variables are different: restart to take them over')
      log.info({ variables: result.changed }, 'the configuration was read again')
    } catch (error) {
      log.error({ reason: (error as Error).message }, 'the configuration is unchanged')
    }
  }
}

/** The first signal stops the process; a later one aborts the requests that it still waits for. */
function onStopSignal(stop: () => void, cut: () => void): void {
  let stoppedAt: number | undefined
  const onSignal = () => {
    if (stoppedAt === undefined) {
      stoppedAt = performance.now()
      stop()
    } else if (performance.now() - stoppedAt > sameSignalMs) cut()
  }
  // In this order: a signal that has arrived and is not dispatched yet is lost with its last listener.
  for (const signal of stopSignals) process.on(signal, onSignal).off(signal, stopEarly)
}

async function listen({ server }: App, { host, port }: Config): Promise<void> {
  const listenTextResolver = (address: string) => `listening at ${address}`
  await server.listen({ host, port, listenTextResolver }).catch(({ code }: NodeJS.ErrnoException) => {
    if (code === 'EADDRINUSE') throw new Error(`PORT: ${port} is in use`)
    if (code === 'EACCES') throw new Error(`PORT: ${port} needs more privileges: choose a port from 1024 on`)
    throw new Error(`HOST: cannot listen on ${host} (${code})`)
  })
}

/**
 * Starts the embedded sandbox for a gateway without a platform outside production. Its videos exist only as long as it
 * runs, so the database is in memory too, unless one is configured.
 */
async function ensurePlatform(say: (line: string) => void) {
  const { NODE_ENV, PLATFORM, PLATFORMS } = process.env
  if (PLATFORM || PLATFORMS || NODE_ENV === 'production') return undefined
  const { startEmbeddedSandbox } = await import('../sandbox/embedded.ts')
  const sandbox = await startEmbeddedSandbox()
  embedded = { ...sandbox.env, DATABASE_URL: process.env.DATABASE_URL || 'memory:' }
  Object.assign(process.env, embedded)
  say(`No PLATFORM is configured: publishing on the embedded sandbox platform at ${sandbox.url}`)
  say(
    process.env.DATABASE_URL === 'memory:'
      ? 'The sandbox loses its videos when it exits, so the database is in memory too.'
      : 'The sandbox loses its videos when it exits, but DATABASE_URL is configured: after a restart they turn `error`.',
  )
  return sandbox
}

/** Outside production, creates a key for the lifetime of a gateway that no client could call otherwise. */
async function ensureCredentials(config: Config): Promise<string | undefined> {
  if (config.apiKeys.length || config.oauthClients.length || config.externalIssuer) return undefined
  const { allScopes, generateSecret, hashSecret } = await import('./auth/credentials.ts')
  const key = generateSecret('vgk_')
  config.apiKeys.push({ name: 'development', secretHash: hashSecret(key), scopes: [...allScopes] })
  return key
}
