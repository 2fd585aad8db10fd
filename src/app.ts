import type { FastifyInstance } from 'fastify'
import { createBackground } from './app/background.ts'
import { closeInOrder, createEndSignals } from './app/closing.ts'
import { createIdentity } from './app/identity.ts'
import { createWebhooks, startDeliveries } from './app/webhooks.ts'
import type { Config } from './config/config.ts'
import type { Adopt } from './config/reload.ts'
import { version } from './config/version.ts'
import { warningsOf } from './config/warnings.ts'
import { createStreamPlaces, defaultStreamLimits, type StreamLimits } from './events/places.ts'
import { createTail } from './events/tail.ts'
import type { WebhookPolicy } from './events/webhooks.ts'
import type { ConnectionLimits } from './http/connection-limits.ts'
import { createDrains } from './http/drain.ts'
import { createServer, type ServerOptions } from './http/fastify.ts'
import { createScopeGuard } from './http/guard.ts'
import { registerHooks } from './http/hooks.ts'
import { limitClients } from './http/limits.ts'
import { createMetrics } from './observability/metrics.ts'
import { observeStore } from './observability/observed-store.ts'
import { type TraceOf, traceHeaders, withRequestId } from './observability/tracing.ts'
import { configurePlatforms } from './platform/configured.ts'
import { defaultTools, type PlatformTools } from './platform/tools.ts'
import type { Gateway } from './publication/gateway.ts'
import { watchLeases } from './publication/leases.ts'
import { createRefreshes } from './publication/refresh.ts'
import type { VideoStore } from './publication/store.ts'
import { warnOfStrandedVideos } from './publication/stranded.ts'
import { contentRoutes } from './routes/content.ts'
import { registerDocs } from './routes/docs.ts'
import { eventRoutes } from './routes/events.ts'
import { hintRoutes } from './routes/hints.ts'
import { registerHome } from './routes/home.ts'
import { oauthRoutes } from './routes/oauth.ts'
import { operationsRoutes } from './routes/operations.ts'
import { createPresenter } from './routes/presentation.ts'
import { statusRoutes } from './routes/status.ts'
import { videoRoutes } from './routes/videos.ts'
import { webhookRoutes } from './routes/webhooks.ts'
import { describeStore, isNewStore, openStore } from './store/open.ts'
import { watchStore } from './store/watch.ts'

export interface App {
  server: FastifyInstance
  gateway: Gateway
  /**
   * Logs version, platforms and database and the weaknesses of the configuration, and begins to check the platforms'
   * credentials. Returns immediately.
   */
  inspect(): void
  /** Applies parts of a newer configuration while requests are served. */
  adopt: Adopt
  /**
   * Turns readiness off, waits for the requests in progress for at most `SHUTDOWN_TIMEOUT`, or until `cut` fires, then
   * aborts what is left and closes everything. Takes at most a few seconds more in every case.
   */
  shutdown(cut?: AbortSignal): Promise<void>
}

export interface AppOptions {
  /** Fastify's own option: a level, and where the lines go. */
  logger?: ServerOptions['logger']
  /** For tests that cannot wait: timeouts, retries, circuit. */
  tools?: Partial<PlatformTools>
  /** Replaces the default, which passes on the trace headers of the client. */
  traceOf?: TraceOf
  /** For tests: wraps the store. */
  wrapStore?: (store: VideoStore) => VideoStore
  /** For tests that cannot wait. */
  connectionLimits?: Partial<ConnectionLimits>
  streamLimits?: Partial<StreamLimits>
  webhooks?: Partial<WebhookPolicy>
  /** For tests: addresses of name servers for webhook endpoints. */
  nameServers?: readonly string[]
}

/**
 * Builds the whole gateway, ready to listen. Everything is wired here, by plain arguments: the parts that are more than
 * one call are in `app/`.
 */
export async function buildApp(config: Config, options: AppOptions = {}): Promise<App> {
  const { logger, connectionLimits } = options
  const drains = createDrains()
  const server = createServer({ logger, trustedProxies: config.trustedProxies, connectionLimits, drains })
  const log = withRequestId(server.log)
  const signals = createEndSignals()
  const background = createBackground()
  const publicUrl = () =>
    config.publicUrl ?? server.listeningOrigin.replace('[::]', 'localhost').replace('0.0.0.0', 'localhost')

  // The database, the platforms, and the metrics of both.
  const isNew = isNewStore(config.databaseUrl)
  const opened = await openStore(config.databaseUrl, config.databasePool)
  const store = observeStore(options.wrapStore?.(opened) ?? opened, (call) => metrics.storeCall(call))
  const uploads: Gateway['uploads'] = new Map()
  const places = createStreamPlaces({ ...defaultStreamLimits, ...options.streamLimits })
  const metrics = createMetrics({
    store,
    uploadsInProgress: () => uploads.size,
    streamsOpen: () => places.count(),
    platforms: config.platforms.map(({ definition }) => definition.name),
  })
  const storeWatch = watchStore(store, log)
  const observer: PlatformTools['observer'] = {
    ...metrics,
    circuit(platform, state) {
      metrics.circuit(platform, state)
      background.circuit(platform, state)
    },
  }
  const tools: PlatformTools = { ...defaultTools, log, observer, traceHeaders, ...options.tools }
  const platforms = configurePlatforms(config.platforms, tools, {
    signal: signals.work,
    changed: metrics.credentials,
  })
  const tail = createTail(store, log)

  // The domain.
  const gateway: Gateway = {
    store,
    platforms: platforms.adapters,
    defaultPlatform: config.platforms[0]?.definition.name ?? '',
    policy: config.policy,
    leases: watchLeases(store, config.policy),
    uploads,
    works: new Set(),
    refreshes: createRefreshes(config.policy.pollConcurrency),
    troubles: new Map(),
    log,
    observer: {
      ...metrics,
      stageChanged(change) {
        metrics.stageChanged(change)
        tail.wake()
        background.eventWritten()
      },
    },
    signal: signals.work,
    cleanupSignal: signals.cleanup,
    wakePoller: background.wakePoller,
  }

  // Authentication, and the hooks of every request.
  const identity = await createIdentity(config, server.log, publicUrl)
  const { secrets, issuer } = identity
  const changed = background.webhooksChanged
  const webhooks = createWebhooks({ config, store, log, secrets, changed, signal: signals.work })
  const drain = await registerHooks(server, {
    metrics,
    traceOf: options.traceOf,
    publicUrl: config.publicUrl,
  })

  // The documentation and the routes.
  const refreshDocs = await registerDocs(server, {
    platforms: [...platforms.adapters.keys()],
    hasClients: () => config.oauthClients.length > 0,
    issuerUrl: config.externalIssuer?.issuerUrl,
    publicUrl,
  })
  registerHome(server)
  const present = createPresenter(gateway, publicUrl)
  const requireScope = limitClients(server, createScopeGuard(identity.authenticate), config.rateLimit)
  const routes = { gateway, present, requireScope }
  /** Aborted to end the streams that are open now. */
  let endStreams = new AbortController()
  const streaming = () => AbortSignal.any([endStreams.signal, drain.signal])
  await server.register(videoRoutes, routes)
  await server.register(contentRoutes, routes)
  await server.register(statusRoutes, { ...routes, tail, draining: drain.signal })
  await server.register(eventRoutes, { ...routes, tail, places, streaming })
  await server.register(webhookRoutes, { webhooks, requireScope, publicUrl })
  await server.register(hintRoutes, { gateway })
  await server.register(oauthRoutes, { issuer, clients: config.oauthClients, publicUrl })
  await server.register(operationsRoutes, { metrics, notReady })

  async function notReady(): Promise<string | undefined> {
    return drain.started() ? 'the process is shutting down' : storeWatch.problem()
  }

  // Background work and shutdown.
  server.addHook('onListen', async () => {
    background.start(gateway, () =>
      startDeliveries(webhooks, {
        store,
        log,
        observer: metrics,
        render: (event) => JSON.stringify(present.event(event)),
        policy: options.webhooks,
        nameServers: options.nameServers,
      }),
    )
  })
  closeInOrder(server, {
    drain,
    drains,
    signals,
    background,
    async close() {
      identity.close()
      await platforms.close()
      storeWatch.stop()
      await tail.stop()
      await store.close()
    },
  })

  function inspect(): void {
    const running = describeStore(config.databaseUrl)
    if (isNew) log.info({ store: running }, 'there was no database: it is new and empty')
    const names = [...platforms.adapters.keys()]
    log.info({ version, platforms: names, store: running }, 'the gateway has started')
    for (const warning of warningsOf(config)) log.warn({}, warning)
    void warnOfStrandedVideos(gateway)
    platforms.watch()
  }

  async function shutdown(cut?: AbortSignal): Promise<void> {
    drain.start()
    await drain.wait(config.shutdownTimeout, cut)
    await server.close()
  }

  // The lists are changed in place, because their readers hold them.
  const adopt: Adopt = {
    apiKeys({ apiKeys }) {
      config.apiKeys.splice(0, Number.POSITIVE_INFINITY, ...apiKeys)
      // Clients connect again, with keys that are still valid.
      endStreams.abort()
      endStreams = new AbortController()
    },
    oauthClients({ oauthClients }) {
      config.oauthClients.splice(0, Number.POSITIVE_INFINITY, ...oauthClients)
      refreshDocs()
    },
    platform: platforms.replace,
  }

  await server.ready()
  return { server, gateway, inspect, adopt, shutdown }
}
