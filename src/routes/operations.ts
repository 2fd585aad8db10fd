import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import type { Metrics } from '../observability/metrics.ts'
import { json, problemResponses } from './responses.ts'

export interface OperationsOptions {
  metrics: Metrics
  /** Undefined when all is well, else what is missing. */
  notReady: () => Promise<string | undefined>
}

const Health = Type.Object({ status: Type.Literal('ok') }, { examples: [{ status: 'ok' }] })
const Unready = Type.Object(
  { status: Type.Literal('unavailable'), reason: Type.String() },
  { examples: [{ status: 'unavailable', reason: 'the process is shutting down' }] },
)
const common = { tags: ['Health and metrics'], security: [] }

/** For the orchestrator and the monitoring: probes and metrics. Open, so keep them off the public network. */
export const operationsRoutes: FastifyPluginAsyncTypebox<OperationsOptions> = async (
  app,
  { metrics, notReady },
) => {
  app.get(
    '/health/live',
    {
      schema: {
        ...common,
        operationId: 'isLive',
        summary: 'Check liveness',
        description: 'Returns 200 while the process responds.',
        response: { 200: json('Process is running', Health), ...problemResponses(['internal-error']) },
      },
    },
    async () => ({ status: 'ok' as const }),
  )

  app.get(
    '/health/ready',
    {
      schema: {
        ...common,
        operationId: 'isReady',
        summary: 'Check readiness',
        description:
          'Returns 503 with a `reason` while the database is unavailable or the process is shutting down.',
        response: {
          200: json('Ready for requests', Health),
          503: json('Not ready; `reason` says why', Unready),
          ...problemResponses(['internal-error']),
        },
      },
    },
    async (_request, reply) => {
      const reason = await notReady()
      return reason === undefined
        ? { status: 'ok' as const }
        : reply.code(503).send({ status: 'unavailable' as const, reason })
    },
  )

  app.get(
    '/metrics',
    {
      schema: {
        ...common,
        operationId: 'getMetrics',
        summary: 'Retrieve metrics',
        description: 'Returns all metrics in the Prometheus text format.',
        response: {
          200: {
            description: 'The metrics',
            content: {
              'text/plain': { schema: Type.String({ examples: ['gateway_uploads_in_progress 0'] }) },
            },
          },
          ...problemResponses(['internal-error']),
        },
      },
    },
    async (_request, reply) => {
      const { contentType, text } = await metrics.expose()
      return reply.type(contentType).send(text)
    },
  )
}
