import { randomUUID } from 'node:crypto'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import fastify, {
  type FastifyInstance,
  type FastifyRequest,
  type FastifyServerOptions,
  LogController,
} from 'fastify'
import { harmlessPath } from '../observability/redaction.ts'
import { type ConnectionLimits, defaultLimits } from './connection-limits.ts'
import type { Drains } from './drain.ts'
import { createHttpServers } from './http-server.ts'
import { rejectMalformedRequest } from './malformed-requests.ts'
import { rejectMalformedPath } from './problem.ts'
import { compilersFactory } from './validation.ts'

export interface ServerOptions {
  /** Fastify's own option: a level, and where the lines go. */
  logger?: FastifyServerOptions['logger']
  trustedProxies: string | undefined
  connectionLimits?: Partial<ConnectionLimits> | undefined
  drains: Drains
}

/** Creates the Fastify instance, without hooks and routes. */
export function createServer(options: ServerOptions): FastifyInstance {
  const server: FastifyInstance = fastify({
    logger: redactUrls(options.logger ?? false),
    // `request-log.ts` writes one line per request, instead of Fastify's two.
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
    ...(options.trustedProxies && { trustProxy: options.trustedProxies }),
    serverFactory: createHttpServers(options.drains, { ...defaultLimits, ...options.connectionLimits }, () =>
      server.log.warn('connections are refused: their maximum number is reached'),
    ),
  }).withTypeProvider<TypeBoxTypeProvider>()
  return server
}

/** Fastify itself logs whole URLs. */
function redactUrls(logger: NonNullable<ServerOptions['logger']>) {
  if (typeof logger !== 'object') return logger
  const serializers = { req: ({ method, url }: FastifyRequest) => ({ method, path: harmlessPath(url) }) }
  return { ...logger, serializers }
}
