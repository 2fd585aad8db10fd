import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import type { Metrics } from '../observability/metrics.ts'
import { json, problemAnswers } from './answers.ts'

export interface OperationsOptions {
  metrics: Metrics
  /** Undefined when all is well, else what is missing. */
  notReady: () => string | undefined
}

const Health = Type.Object({ status: Type.Literal('ok') }, { examples: [{ status: 'ok' }] })
const Unready = Type.Object(
  { status: Type.Literal('unavailable'), reason: Type.String() },
  { examples: [{ status: 'unavailable', reason: 'the process is shutting down' }] },
)
const common = { tags: ['Operations'], security: [] }

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
        summary: 'Whether the process runs',
        description:
          'Returns 200 as long as the process handles requests, whatever the state of store and platforms.',
        response: { 200: json('It does', Health), ...problemAnswers(['internal-error']) },
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
        summary: 'Whether it takes requests',
        description: '503 while the store is out of reach or the process drains.',
        response: {
          200: json('It does', Health),
          503: json('It does not', Unready),
          ...problemAnswers(['internal-error']),
        },
      },
    },
    async (_request, reply) => {
      const reason = notReady()
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
        summary: 'Metrics for Prometheus',
        description: 'Returns the metrics of this process in the Prometheus text format.',
        response: {
          200: {
            description: 'The exposition format',
            content: {
              'text/plain': { schema: Type.String({ examples: ['gateway_uploads_in_progress 0'] }) },
            },
          },
          ...problemAnswers(['internal-error']),
        },
      },
    },
    async (_request, reply) => {
      const { contentType, text } = await metrics.expose()
      return reply.type(contentType).send(text)
    },
  )
}
