import rateLimit from '@fastify/rate-limit'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { principalKey } from '../auth/credentials.ts'
import { GatewayError } from '../errors.ts'
import type { RequireScope } from './guard.ts'

const minute = 60_000

/**
 * Route option of the token endpoint, against guessing of secrets: maximum requests per minute from one address
 * (IPv6: one /64). A client needs one token per 15 minutes.
 */
export const tokenRateLimit = { max: 30, timeWindow: minute }

/**
 * Route option of the platforms' webhooks: maximum requests per second from one address. Each platform sends from its
 * own addresses, so a flood from one platform, or of forged requests, does not use up the limit of the others.
 */
export const hintAttempts = { max: 100, timeWindow: 1_000 }

/** Registers the rate limits, before the routes. They are counted in memory: each process has its own. */
export async function registerLimits(server: FastifyInstance): Promise<void> {
  await server.register(rateLimit, {
    global: false,
    enableDraftSpec: true,
    errorResponseBuilder: ({ routeOptions }, { max, ttl }) =>
      new GatewayError(
        'too-many-requests',
        `The limit is ${max} requests per ${unitOf(routeOptions)}. Retry when Retry-After has passed.`,
        {
          retryAfter: Math.ceil(ttl / 1000),
        },
      ),
  })
}

/**
 * Adds a limit per client, by its name, to the scope guard: it counts the requests that the guard accepts, on all
 * routes together. The responses have `RateLimit-Limit`, `-Remaining` and `-Reset`.
 * @param perMinute undefined is no limit
 */
export function limitClients(
  server: FastifyInstance,
  requireScope: RequireScope,
  perMinute: number | undefined,
): RequireScope {
  if (perMinute === undefined) return requireScope
  const limit = server.rateLimit({
    max: perMinute,
    timeWindow: minute,
    keyGenerator: ({ principal, ip }) => (principal ? principalKey(principal) : ip),
  })
  return (scope) => {
    const guard = requireScope(scope)
    return async function guardAndLimit(request, reply) {
      await guard.call(this, request, reply)
      await limit.call(this, request, reply)
    }
  }
}

function unitOf({ config }: FastifyRequest['routeOptions']): string {
  return config.rateLimit === hintAttempts ? 'second' : 'minute'
}
