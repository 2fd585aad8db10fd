import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { GatewayError } from '../errors.ts'
import { valuesOf } from '../http/connections.ts'
import { hintAttempts } from '../http/limits.ts'
import type { Gateway } from '../publication/gateway.ts'
import { hintReaderOf, takeHint } from '../publication/hint.ts'
import { platformFailures, problemResponses } from './responses.ts'

const bodyLimit = 256 * 1024

const schema = {
  operationId: 'receivePlatformWebhook',
  summary: 'Receive a webhook of a platform',
  description:
    'For the platform alone, which signs the request in its own way. The gateway then checks the video immediately instead of at its next check; a webhook changes nothing by itself. Configure the secret of the signature in the gateway and this URL on the platform.',
  tags: ['Platform webhooks'],
  security: [],
  params: Type.Object({ name: Type.String({ description: 'Name of the platform.', examples: ['mux'] }) }),
  body: {
    content: {
      'application/json': { schema: Type.Unknown({ description: 'Webhook as the platform sends it.' }) },
    },
  },
  response: {
    204: { description: 'Accepted; also when the gateway does not have the video', type: 'null' },
    ...problemResponses([
      'invalid-request',
      'invalid-signature',
      'not-found',
      'request-timeout',
      'content-too-large',
      'unsupported-media-type',
      'too-many-requests',
      'internal-error',
      'store-unavailable',
      'shutting-down',
      ...platformFailures,
    ]),
  },
}

/** Route for the platforms' webhooks. In a scope of its own, because bodies of every type are read as bytes. */
export const hintRoutes: FastifyPluginAsyncTypebox<{ gateway: Gateway }> = async (app, { gateway }) => {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))

  app.post(
    '/v1/platforms/:name/webhook',
    {
      schema,
      bodyLimit,
      config: { rateLimit: hintAttempts, readsWholeBody: true },
      // Before the body is read.
      onRequest: async ({ params }) => void hintReaderOf(gateway, (params as { name: string }).name),
    },
    async ({ params, body, raw }, reply) => {
      const notification = {
        header: (name: string) => valuesOf(raw, name),
        body: (body as Buffer | undefined) ?? Buffer.alloc(0),
      }
      try {
        await takeHint(gateway, params.name, notification)
      } catch (error) {
        // RFC 9110 §15.5.2: a 401 names its scheme.
        if (error instanceof GatewayError && error.code === 'invalid-signature')
          reply.header('www-authenticate', 'Webhook-Signature realm="video-gateway"')
        throw error
      }
      return reply.code(204).send(null)
    },
  )
}
