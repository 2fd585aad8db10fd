import { FormatRegistry, Type } from '@sinclair/typebox'
import { webhookEventTypes } from '../publication/webhooks.ts'
import { nullable, time } from './schemas.ts'

/** RFC 3339 §5.6. `Date.parse` alone takes February 30 for March 2, and hour 24 for the next day. */
const dateTime = /^(\d{4}-\d\d-\d\d)T([01]\d|2[0-3]):\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/i
FormatRegistry.Set('date-time', (text) => {
  const [, day] = dateTime.exec(text) ?? []
  const midnight = Date.parse(`${day}T00:00:00Z`)
  if (Number.isNaN(midnight) || Number.isNaN(Date.parse(text))) return false
  return new Date(midnight).toISOString().startsWith(day as string)
})

const id = '0192f0c2-11d0-7b3c-9a5e-6f7081920314'
const eventId = '0192f0c2-3c44-7e21-8d0f-1a2b3c4d5e6f'
const url = 'https://back-office.example/webhooks'
const created = '2026-11-24T08:00:00.000Z'

const EventType = Type.Union(webhookEventTypes.map((type) => Type.Literal(type)))

const fields = {
  url: Type.String({
    minLength: 1,
    maxLength: 2_048,
    description:
      'Where events are sent by `POST`: https, without credentials and fragment, on a port and an address that the operator allows.',
    examples: [url],
  }),
  description: nullable(
    Type.String({ maxLength: 500, format: 'text', description: 'For people.', examples: ['Production'] }),
  ),
  events: nullable(
    Type.Array(EventType, {
      minItems: 1,
      uniqueItems: true,
      description:
        'The types of events to send; null for all types of videos. `webhook.disabled` means that another endpoint was disabled.',
      examples: [['video.ready', 'video.failed']],
    }),
  ),
  enabled: Type.Boolean({ description: 'Whether events are sent.', examples: [true] }),
}

export const WebhookBody = Type.Object(
  {
    url: fields.url,
    description: Type.Optional(fields.description),
    events: Type.Optional(fields.events),
    enabled: Type.Optional(fields.enabled),
  },
  {
    additionalProperties: false,
    examples: [{ url, description: 'Production', events: ['video.ready', 'video.failed'] }],
  },
)

export const WebhookChange = Type.Object(Type.Partial(WebhookBody).properties, {
  additionalProperties: false,
  minProperties: 1,
  examples: [{ enabled: true }],
})

export const ResendBody = Type.Object(
  { since: time('Every event from this time on is sent again, in at most `EVENT_RETENTION`.') },
  { additionalProperties: false, examples: [{ since: created }] },
)

const shown = {
  id: Type.String({ format: 'uuid', description: 'The gateway’s id of the endpoint (UUIDv7).' }),
  url: Type.String({ format: 'uri' }),
  description: nullable(Type.String()),
  events: nullable(Type.Array(EventType, { description: 'Null: all types of videos.' })),
  enabled: Type.Boolean(),
  disabledReason: nullable(
    Type.Union([Type.Literal('gone'), Type.Literal('failing')], {
      description:
        'Why the gateway disabled the endpoint: it returned 410 (`gone`), or every delivery failed for five days (`failing`).',
    }),
  ),
  failingSince: nullable(
    time('Since when every delivery has failed; null after one that succeeded, and before the first.'),
  ),
  secretRenewedAt: nullable(time('When the secret was last renewed; null before.')),
  version: Type.Integer({ description: 'Grows with every change.' }),
  createdAt: time('Time of the creation.'),
  updatedAt: time('Time of the last change.'),
}
const example = {
  ...{ id, url, description: 'Production', events: ['video.ready', 'video.failed'] },
  ...{ enabled: true, disabledReason: null, failingSince: null, secretRenewedAt: null, version: 1 },
  ...{ createdAt: created, updatedAt: created },
}

export const WebhookResource = Type.Object(shown, { $id: 'Webhook', examples: [example] })

export const WebhookWithSecret = Type.Object(
  {
    ...shown,
    secret: Type.String({
      description: 'Verifies the signatures. Store it: the gateway does not return it again.',
    }),
  },
  {
    $id: 'WebhookWithSecret',
    examples: [{ ...example, secret: 'whsec_9ku4YKXyd5nGWfHcU4VmHqdWDsaJYvUp1oIyj5hbLzQ=' }],
  },
)

export const WebhookList = Type.Object({ items: Type.Array(Type.Ref('Webhook')) })

const Status = Type.Union([Type.Literal('pending'), Type.Literal('delivered'), Type.Literal('failed')], {
  description: '`pending` until the endpoint returned 2xx (`delivered`), or the gateway gave up (`failed`).',
})

export const DeliveryResource = Type.Object(
  {
    eventId: Type.String({ description: 'Id of the event: the header `webhook-id`.' }),
    type: Type.String({ description: 'Type of the event.' }),
    status: Status,
    attempts: Type.Integer({ description: 'Attempts so far, including one in progress.' }),
    createdAt: time('When the delivery was planned.'),
    lastAttemptAt: nullable(time('Time of the last attempt.')),
    nextAttemptAt: nullable(time('Time of the next attempt; null if there is none.')),
    responseStatus: nullable(Type.Integer({ description: 'HTTP status of the last response.' })),
    failure: nullable(
      Type.String({
        description: 'Why the last attempt failed, such as `status`, `timeout` or `certificate`.',
      }),
    ),
    response: nullable(Type.String({ description: 'The beginning of the last response, as one line.' })),
  },
  {
    $id: 'Delivery',
    examples: [
      {
        ...{ eventId, type: 'video.ready', status: 'pending', attempts: 1, createdAt: created },
        ...{ lastAttemptAt: '2026-11-24T08:00:01.000Z', nextAttemptAt: '2026-11-24T08:00:06.000Z' },
        ...{ responseStatus: 500, failure: 'status', response: 'Internal Server Error' },
      },
    ],
  },
)

export const DeliveryPage = Type.Object({
  items: Type.Array(Type.Ref('Delivery')),
  nextCursor: nullable(
    Type.String({ description: 'Pass it as `cursor` to get the next page; null on the last page.' }),
  ),
})

export const DeliveryQuery = Type.Object(
  {
    status: Type.Optional(Status),
    limit: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 200, default: 50, description: 'Deliveries per page.' }),
    ),
    cursor: Type.Optional(Type.String({ maxLength: 200, description: '`nextCursor` of the previous page.' })),
  },
  { additionalProperties: false },
)

export const WebhookParams = Type.Object({
  id: Type.String({ description: 'The gateway’s id of the endpoint.', examples: [id] }),
})

export const DeliveryParams = Type.Object({
  ...WebhookParams.properties,
  event: Type.String({ description: 'Id of the event.', examples: [eventId] }),
})
