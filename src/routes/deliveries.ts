import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import type { onRequestAsyncHookHandler } from 'fastify'
import { GatewayError } from '../errors.ts'
import { requireEndpoint, resendEvent, resendSince, sendTest, type Webhooks } from '../events/endpoints.ts'
import { iso } from '../publication/iso.ts'
import type { Delivery } from '../publication/webhooks.ts'
import { decodeCursor, encodeCursor } from './cursors.ts'
import { json, responses, securedBy } from './responses.ts'
import { DeliveryPage, DeliveryParams, DeliveryQuery, ResendBody, WebhookParams } from './webhook-schemas.ts'

const common = { tags: ['Webhook endpoints'], security: securedBy('webhooks:manage') }

export interface DeliveryRouteOptions {
  webhooks: Webhooks
  /** Requires the scope. */
  onRequest: onRequestAsyncHookHandler
}

/** Routes that show what was sent to the endpoints of webhooks, and send it again. */
export const deliveryRoutes: FastifyPluginAsyncTypebox<DeliveryRouteOptions> = async (
  app,
  { webhooks, onRequest },
) => {
  app.post(
    '/v1/webhooks/:id/test',
    {
      onRequest,
      schema: {
        ...common,
        operationId: 'testWebhook',
        summary: 'Send a test event',
        description:
          'Sends an event of the type `webhook.test`, whose `data` is the endpoint, even if the endpoint does not subscribe to this type. Its deliveries show the result.',
        params: WebhookParams,
        response: responses(
          { 202: json('The delivery, which is now due', Type.Ref('Delivery')) },
          'webhook-not-found',
          'webhook-disabled',
          'webhooks-not-configured',
          'shutting-down',
        ),
      },
    },
    async ({ params }, reply) => {
      const delivery = await sendTest(webhooks, params.id)
      return reply.code(202).send(shownDelivery(delivery))
    },
  )

  app.get(
    '/v1/webhooks/:id/deliveries',
    {
      onRequest,
      schema: {
        ...common,
        operationId: 'listDeliveries',
        summary: 'List deliveries',
        description:
          'Returns the deliveries to the endpoint with their results, newest event first, one page at a time. Pass `nextCursor` as `cursor` to get the next page.',
        params: WebhookParams,
        querystring: DeliveryQuery,
        response: responses({ 200: json('A page of deliveries', DeliveryPage) }, 'webhook-not-found'),
      },
    },
    async ({ params, query }) => {
      const { status, limit = 50 } = query
      const before = query.cursor === undefined ? undefined : decodeCursor(query.cursor)
      const { id: endpointId } = await requireEndpoint(webhooks, params.id)
      const found = await webhooks.store.deliveries({ endpointId, status, before, limit: limit + 1 })
      const page = found.slice(0, limit)
      return {
        items: page.map(shownDelivery),
        nextCursor: found.length > limit ? encodeCursor(page.at(-1)?.eventId ?? '') : null,
      }
    },
  )

  app.post(
    '/v1/webhooks/:id/deliveries/:event/resend',
    {
      onRequest,
      schema: {
        ...common,
        operationId: 'resendEvent',
        summary: 'Resend an event',
        description:
          'Sends one event again, or for the first time, with the same `webhook-id` and with all retries.',
        params: DeliveryParams,
        response: responses(
          { 202: json('The delivery, which is now due', Type.Ref('Delivery')) },
          'webhook-not-found',
          'event-not-found',
          'webhook-disabled',
          'webhooks-not-configured',
          'shutting-down',
        ),
      },
    },
    async ({ params }, reply) => {
      const delivery = await resendEvent(webhooks, params.id, params.event)
      return reply.code(202).send(shownDelivery(delivery))
    },
  )

  app.post(
    '/v1/webhooks/:id/deliveries/resend',
    {
      onRequest,
      schema: {
        ...common,
        operationId: 'resendEvents',
        summary: 'Resend all events since a time',
        description:
          'Sends every event since a time again whose type the endpoint subscribes to, delivered or not, for example after the receiver lost data. Events are kept for `EVENT_RETENTION` (30 days).',
        params: WebhookParams,
        body: ResendBody,
        response: responses(
          { 202: json('Accepted: the events are sent in the background', ResendBody) },
          'webhook-not-found',
          'webhook-disabled',
          'content-too-large',
          'unsupported-media-type',
          'webhooks-not-configured',
          'shutting-down',
        ),
      },
    },
    async ({ params, body }, reply) => {
      const since = new Date(body.since)
      if (since.getTime() > webhooks.store.now())
        throw new GatewayError('invalid-request', undefined, {
          errors: [{ path: '/since', message: 'must not be in the future' }],
        })
      await resendSince(webhooks, params.id, since.getTime())
      return reply.code(202).send({ since: since.toISOString() })
    },
  )
}

function shownDelivery({ endpointId: _, ...delivery }: Delivery) {
  return {
    ...delivery,
    createdAt: iso(delivery.createdAt),
    lastAttemptAt: iso(delivery.lastAttemptAt),
    nextAttemptAt: iso(delivery.nextAttemptAt),
  }
}
