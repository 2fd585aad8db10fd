import { AsyncLocalStorage } from 'node:async_hooks'
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import fastify, {
  type FastifyInstance,
  type FastifyRequest,
  type FastifyServerOptions,
  LogController,
} from 'fastify'
import { createTokenIssuer } from './auth/access-tokens.ts'
import { createAuthenticator } from './auth/authenticate.ts'
import { createExternalIssuer } from './auth/external-issuer.ts'
import { deriveWebhookSecrets, generateGatewaySecret } from './auth/gateway-secret.ts'
import type { Config } from './config/config.ts'
import type { Adopt } from './config/reload.ts'
import { version } from './config/version.ts'
import { warningsOf } from './config/warnings.ts'
import { GatewayError } from './errors.ts'
import { validGenerations } from './events/endpoint-secrets.ts'
import type { Webhooks } from './events/endpoints.ts'
import { createStreamPlaces, defaultStreamLimits, type StreamLimits } from './events/places.ts'
import { createTail } from './events/tail.ts'
import {
  defaultWebhookPolicy,
  startWebhookDeliveries,
  type WebhookDeliveries,
  type WebhookPolicy,
} from './events/webhooks.ts'
import { checkBodies } from './http/bodies.ts'
import { type ConnectionLimits, defaultLimits, keepWhileWaiting } from './http/connection-limits.ts'
import { enforceBodyDeadline } from './http/connections.ts'
import { createDrains } from './http/drain.ts'
import { announceEarlyResponses } from './http/early-responses.ts'
import { checkFraming } from './http/framing.ts'
import { createScopeGuard } from './http/guard.ts'
import { createHttpServers } from './http/http-server.ts'
import { readJson } from './http/json.ts'
import { limitClients, registerLimits } from './http/limits.ts'
import { rejectMalformedRequest } from './http/malformed-requests.ts'
import { registerProblems, rejectMalformedPath } from './http/problem.ts'
import { checkQueries } from './http/query.ts'
import { observeRequests } from './http/request-log.ts'
import { registerSecurityHeaders } from './http/security-headers.ts'
import { drainRequests } from './http/shutdown.ts'
import { compilersFactory } from './http/validation.ts'
import { createMetrics } from './observability/metrics.ts'
import { observeStore } from './observability/observed-store.ts'
import { harmlessPath } from './observability/redaction.ts'
import { type TraceOf, traceHeaders, traceRequests, withRequestId } from './observability/tracing.ts'
import { createDialRules, createGuardedAgent } from './outbound/guard.ts'
import { createNameLookup } from './outbound/lookup.ts'
import { configurePlatforms } from './platform/configured.ts'
import { defaultTools, type PlatformTools } from './platform/tools.ts'
import type { Gateway } from './publication/gateway.ts'
import { startHousekeeping } from './publication/housekeeping.ts'
import { watchLeases } from './publication/leases.ts'
import { type LeftoverSearch, startLeftoverSearch } from './publication/leftovers.ts'
import { type Poller, startPoller } from './publication/poller.ts'
import { createRefreshes } from './publication/refresh.ts'
import type { VideoStore } from './publication/store.ts'
import { startStrandedSweep, warnOfStrandedVideos } from './publication/stranded.ts'
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

/** Time that aborted requests and checks have to settle their rows and to send their responses, in ms. */
const abortGraceMs = 3_000
/** Part of that time for deletions from platforms, in ms; the rest is for their responses. */
const cleanupGraceMs = 2_500
/** Time that the remaining connections have to receive data that was already sent, in ms. */
const closeGraceMs = 1_000

export interface AppOptions {
  /** Fastify's own option: a level, and where the lines go. */
  logger?: FastifyServerOptions['logger']
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

/** Builds the whole gateway, ready to listen. Everything is wired here, by plain arguments. */
export async function buildApp(config: Config, options: AppOptions = {}): Promise<App> {
  const drains = createDrains()
  const server: FastifyInstance = fastify({
    logger: redactUrls(options.logger ?? false),
    // One line a request, written below, instead of two.
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'requestId' }),
    genReqId: ({ headers }) => {
      const given = headers['x-request-id']
      return typeof given === 'string' && /^[\w.:-]{1,128}$/.test(given) ? given : randomUUID()
    },
    clientErrorHandler: rejectMalformedRequest,
    frameworkErrors: rejectMalformedPath,
    bodyLimit: 128 * 1024,
    schemaController: { compilersFactory },
    routerOptions: { maxParamLength: 200 },
    // A connection that is kept while the server closes gets a problem document like any other, see `shutdown.ts`.
    return503OnClosing: false,
    ...(config.trustedProxies && { trustProxy: config.trustedProxies }),
    serverFactory: createHttpServers(drains, { ...defaultLimits, ...options.connectionLimits }, () =>
      server.log.warn('connections are refused: their maximum number is reached'),
    ),
  }).withTypeProvider<TypeBoxTypeProvider>()

  const isNew = isNewStore(config.databaseUrl)
  const opened = await openStore(config.databaseUrl, config.databasePool)
  const store = observeStore(options.wrapStore?.(opened) ?? opened, (call) => metrics.storeCall(call))
  const abort = new AbortController()
  const endCleanup = new AbortController()
  const uploads: Gateway['uploads'] = new Map()
  const metrics = createMetrics({
    store,
    uploadsInProgress: () => uploads.size,
    streamsOpen: () => places.count(),
    platforms: config.platforms.map(({ definition }) => definition.name),
  })
  const log = withRequestId(server.log)
  let poller: Poller | undefined
  let leftovers: LeftoverSearch | undefined
  let deliveries: WebhookDeliveries | undefined
  const observer: PlatformTools['observer'] = {
    ...metrics,
    circuit(platform, state) {
      metrics.circuit(platform, state)
      poller?.circuit(platform, state)
    },
  }
  const storeWatch = watchStore(store, log)
  const tools: PlatformTools = { ...defaultTools, log, observer, traceHeaders, ...options.tools }
  const platforms = configurePlatforms(config.platforms, tools, {
    signal: abort.signal,
    changed: metrics.credentials,
  })
  const tail = createTail(store, log)
  const places = createStreamPlaces({ ...defaultStreamLimits, ...options.streamLimits })
  /** Aborted to end the streams that are open now. */
  let endStreams = new AbortController()
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
        deliveries?.wake()
      },
    },
    signal: abort.signal,
    cleanupSignal: endCleanup.signal,
    // Later work of the poller does not belong to the request that woke it.
    wakePoller: AsyncLocalStorage.bind((platform: string, ms: number) => poller?.wake(platform, ms)),
  }

  const publicUrl = () =>
    config.publicUrl ?? server.listeningOrigin.replace('[::]', 'localhost').replace('0.0.0.0', 'localhost')
  // In production what is derived from a secret must survive the process.
  const secrets = config.secrets.length > 0 || config.production ? config.secrets : [generateGatewaySecret()]
  const issuer = await createTokenIssuer({
    issuerUrl: publicUrl,
    signingKey: config.oauthSigningKey,
    secrets,
  }).catch((error: Error) => {
    throw new Error(`OAUTH_SIGNING_KEY: ${error.message}`)
  })
  const external =
    config.externalIssuer && createExternalIssuer({ ...config.externalIssuer, log: server.log })
  const authenticate = createAuthenticator({ apiKeys: config.apiKeys, issuer, external })

  const webhooks: Webhooks = {
    store,
    rules: createDialRules(config.webhooks, config.production),
    secretsOf:
      secrets.length > 0
        ? (endpoint, now) => deriveWebhookSecrets(secrets, endpoint.id, validGenerations(endpoint, now))
        : undefined,
    secretShown() {
      if (secrets !== config.secrets)
        log.warn(
          {},
          'GATEWAY_SECRET: is not set, so this secret of a webhook is valid until the process ends',
        )
    },
    wake: () => deliveries?.changed(),
  }

  traceRequests(server, options.traceOf)
  observeRequests(server, metrics)
  announceEarlyResponses(server)
  registerSecurityHeaders(server, config.publicUrl)
  await registerLimits(server)
  server.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id)
    keepWhileWaiting(reply.raw)
    checkFraming(request)
    done()
  })
  checkQueries(server)
  const drain = drainRequests(server)
  enforceBodyDeadline(server)
  checkBodies(server)
  readJson(server)
  registerProblems(server)
  const refreshDocs = await registerDocs(server, {
    platforms: [...platforms.adapters.keys()],
    hasClients: () => config.oauthClients.length > 0,
    issuerUrl: config.externalIssuer?.issuerUrl,
    publicUrl,
  })
  registerHome(server)
  const present = createPresenter(gateway, publicUrl)
  const requireScope = limitClients(server, createScopeGuard(authenticate), config.rateLimit)
  const routes = { gateway, present, requireScope }
  await server.register(videoRoutes, routes)
  await server.register(contentRoutes, routes)
  await server.register(statusRoutes, { ...routes, tail, draining: drain.signal })
  await server.register(eventRoutes, {
    ...routes,
    tail,
    places,
    streaming: () => AbortSignal.any([endStreams.signal, drain.signal]),
  })
  await server.register(webhookRoutes, { webhooks, requireScope, publicUrl })
  await server.register(hintRoutes, { gateway })
  await server.register(oauthRoutes, { issuer, clients: config.oauthClients, publicUrl })
  await server.register(operationsRoutes, { metrics, notReady })

  async function notReady(): Promise<string | undefined> {
    return drain.started() ? 'the process is shutting down' : storeWatch.problem()
  }

  /** Without secrets there are no signatures, so there are no deliveries. */
  function startDeliveries(): WebhookDeliveries | undefined {
    const { rules, secretsOf } = webhooks
    return (
      secretsOf &&
      startWebhookDeliveries({
        store,
        log,
        observer: metrics,
        policy: { ...defaultWebhookPolicy, ...options.webhooks },
        dispatcher: createGuardedAgent(rules, createNameLookup(options.nameServers)),
        render: (event) => JSON.stringify(present.event(event)),
        secretsOf,
        userAgent: `video-gateway/${version}`,
      })
    )
  }

  let stopHousekeeping = () => {}
  let stopStrandedSweep = () => {}
  server.addHook('onListen', async () => {
    poller = startPoller(gateway)
    deliveries = startDeliveries()
    stopHousekeeping = startHousekeeping(gateway)
    stopStrandedSweep = startStrandedSweep(gateway)
    leftovers = startLeftoverSearch(gateway)
  })
  server.addHook('preClose', async () => {
    drain.start()
    drains.shorten()
    stopHousekeeping()
    stopStrandedSweep()
    const reason = new GatewayError('shutting-down', 'The gateway is shutting down. Send the request again.')
    abort.abort(reason)
    setTimeout(() => endCleanup.abort(reason), cleanupGraceMs).unref()
    drain.interruptBodies(reason)
    await Promise.all([
      drain.wait(abortGraceMs),
      Promise.race([
        Promise.all([poller?.stop(), leftovers?.stop(), deliveries?.stop()]),
        sleep(abortGraceMs, undefined, { ref: false }),
      ]),
    ])
    // The server would wait forever for half a request, or for a client that does not read its response.
    setTimeout(() => server.server.closeAllConnections(), closeGraceMs).unref()
  })
  server.addHook('onClose', async () => {
    external?.close()
    await platforms.close()
    storeWatch.stop()
    await tail.stop()
    await store.close()
  })

  function inspect(): void {
    const names = [...platforms.adapters.keys()]
    if (isNew)
      log.info({ store: describeStore(config.databaseUrl) }, 'there was no database: it is new and empty')
    log.info(
      { version, platforms: names, store: describeStore(config.databaseUrl) },
      'the gateway has started',
    )
    for (const warning of warningsOf(config)) log.warn({}, warning)
    void warnOfStrandedVideos(gateway)
    platforms.watch()
  }

  async function shutdown(cut?: AbortSignal): Promise<void> {
    drain.start()
    await drain.wait(config.shutdownTimeout, cut)
    await server.close()
  }

  /** Their readers connect again, with keys that are still valid. */
  function restartStreams(): void {
    endStreams.abort()
    endStreams = new AbortController()
  }

  // Who reads these lists finds in them what is configured now.
  const adopt: Adopt = {
    apiKeys({ apiKeys }) {
      config.apiKeys.splice(0, Number.POSITIVE_INFINITY, ...apiKeys)
      restartStreams()
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

/** Fastify itself logs whole URLs. */
function redactUrls(logger: NonNullable<AppOptions['logger']>) {
  if (typeof logger !== 'object') return logger
  const serializers = { req: ({ method, url }: FastifyRequest) => ({ method, path: harmlessPath(url) }) }
  return { ...logger, serializers }
}
