import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import type { FastifyReply } from 'fastify'
import { GatewayError } from '../errors.ts'
import {
  changeEndpoint,
  createEndpoint,
  deleteEndpoint,
  type EndpointWithSecret,
  renewSecret,
  requireEndpoint,
  type Webhooks,
} from '../events/endpoints.ts'
import { shownEndpoint } from '../events/own-events.ts'
import type { RequireScope } from '../http/guard.ts'
import { deliveryRoutes } from './deliveries.ts'
import { json, responses, securedBy } from './responses.ts'
import { WebhookBody, WebhookChange, WebhookList, WebhookParams } from './webhook-schemas.ts'

const scope = 'webhooks:manage'
const common = { tags: ['Webhook endpoints'], security: securedBy(scope) }
const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

export interface WebhookRouteOptions {
  webhooks: Webhooks
  requireScope: RequireScope
  /** Base of the URLs handed out, without a slash at its end. */
  publicUrl: () => string
}

/** Routes that manage the endpoints of webhooks, and in `deliveries.ts` what is sent to them. */
export const webhookRoutes: FastifyPluginAsyncTypebox<WebhookRouteOptions> = async (
  app,
  { webhooks, requireScope, publicUrl },
) => {
  const onRequest = requireScope(scope)
  // An id of another form cannot exist.
  app.addHook('preValidation', async ({ params }) => {
    const { id, event } = params as { id?: string; event?: string }
    if (id !== undefined && !uuid.test(id)) throw new GatewayError('webhook-not-found')
    if (event !== undefined && !uuid.test(event)) throw new GatewayError('event-not-found')
  })

  app.post(
    '/v1/webhooks',
    {
      onRequest,
      schema: {
        ...common,
        operationId: 'createWebhook',
        summary: 'Create a webhook endpoint',
        description:
          'From now on the gateway sends events to the URL, signed as Standard Webhooks specify. Store the `secret` of the response: it verifies the signatures, and no other call returns it. The response of the endpoint is 2xx within 15 s; otherwise the gateway retries for three days with growing pauses, and honors `Retry-After`. Redirects are failures. An endpoint that returns 410, or fails for five days, is disabled.',
        body: WebhookBody,
        response: responses(
          {
            201: {
              description: 'The endpoint, and its secret',
              headers: {
                location: {
                  type: 'string',
                  format: 'uri-reference',
                  description: 'Path of the new endpoint.',
                },
              },
              content: { 'application/json': { schema: Type.Ref('WebhookWithSecret') } },
            },
          },
          'too-many-webhooks',
          'content-too-large',
          'unsupported-media-type',
          'webhooks-not-configured',
          'shutting-down',
        ),
      },
    },
    async ({ body }, reply) => {
      const created = await createEndpoint(webhooks, body)
      const { pathname } = new URL(`${publicUrl()}/v1/webhooks/${created.endpoint.id}`)
      return withSecret(reply.code(201).header('location', pathname), created)
    },
  )

  app.get(
    '/v1/webhooks',
    {
      onRequest,
      schema: {
        ...common,
        operationId: 'listWebhooks',
        summary: 'List webhook endpoints',
        description: 'Returns all webhook endpoints, the oldest first. There are at most 100.',
        response: responses({ 200: json('All endpoints', WebhookList) }),
      },
    },
    async () => ({ items: (await webhooks.store.endpoints()).map(shownEndpoint) }),
  )

  app.get(
    '/v1/webhooks/:id',
    {
      onRequest,
      schema: {
        ...common,
        operationId: 'getWebhook',
        summary: 'Retrieve a webhook endpoint',
        description: 'Returns the endpoint without its secret.',
        params: WebhookParams,
        response: responses({ 200: json('The endpoint', Type.Ref('Webhook')) }, 'webhook-not-found'),
      },
    },
    async ({ params }) => shownEndpoint(await requireEndpoint(webhooks, params.id)),
  )

  app.patch(
    '/v1/webhooks/:id',
    {
      onRequest,
      schema: {
        ...common,
        operationId: 'updateWebhook',
        summary: 'Change a webhook endpoint',
        description:
          'Changes the given fields. An endpoint that is enabled again gets later events; resend those from the time in between. Its secret does not change.',
        params: WebhookParams,
        body: WebhookChange,
        response: responses(
          { 200: json('The endpoint after the change', Type.Ref('Webhook')) },
          'webhook-not-found',
          'content-too-large',
          'unsupported-media-type',
          'shutting-down',
        ),
      },
    },
    async ({ params, body }) => shownEndpoint(await changeEndpoint(webhooks, params.id, body)),
  )

  app.delete(
    '/v1/webhooks/:id',
    {
      onRequest,
      schema: {
        ...common,
        operationId: 'deleteWebhook',
        summary: 'Delete a webhook endpoint',
        description: 'Sends nothing more to it. An attempt in progress may still arrive.',
        params: WebhookParams,
        response: responses(
          { 204: { type: 'null', description: 'Endpoint deleted' } },
          'webhook-not-found',
          'shutting-down',
        ),
      },
    },
    async ({ params }, reply) => {
      await deleteEndpoint(webhooks, params.id)
      return reply.code(204).send(null)
    },
  )

  app.post(
    '/v1/webhooks/:id/secret',
    {
      onRequest,
      schema: {
        ...common,
        operationId: 'renewWebhookSecret',
        summary: 'Renew the secret',
        description:
          'Renews the secret and returns it. For a day each message is also signed with the previous secret, so that receivers can switch. Only the last two secrets are valid: a second renewal within the day ends the first secret immediately.',
        params: WebhookParams,
        response: responses(
          { 200: json('The endpoint, and its new secret', Type.Ref('WebhookWithSecret')) },
          'webhook-not-found',
          'webhooks-not-configured',
          'shutting-down',
        ),
      },
    },
    async ({ params }, reply) => withSecret(reply, await renewSecret(webhooks, params.id)),
  )

  await app.register(deliveryRoutes, { webhooks, onRequest })
}

/** The secret must not stay in a cache. */
function withSecret(reply: FastifyReply, { endpoint, secret }: EndpointWithSecret) {
  reply.header('cache-control', 'no-store')
  return { ...shownEndpoint(endpoint), secret }
}
