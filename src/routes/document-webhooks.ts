import { type EventType, eventTypes } from '../publication/events.ts'
import type { OwnEvent } from '../publication/webhooks.ts'
import { ThumbnailResource, VideoInfoResource, VideoResource } from './video-schemas.ts'
import { WebhookResource } from './webhook-schemas.ts'

type AnyType = EventType | OwnEvent['type']

const exampleId = '0192f0c2-3c44-7e21-8d0f-1a2b3c4d5e6f'

/** Description of each event. */
const meanings: Record<AnyType, string> = {
  'video.created': 'A video was created.',
  'video.uploaded': 'The platform has the content of a video, and processes it.',
  'video.upload-failed': 'An upload failed. The video accepts a new one.',
  'video.ready': 'A video is ready: `data` has its info and thumbnail.',
  'video.failed': 'A video will not become ready: `data.error` says why.',
  'video.updated': 'Another property of a video changed.',
  'video.deleted': 'A video was deleted. `data` is the video before the deletion.',
  'webhook.test': 'A client asked for a test. `data` is the endpoint.',
  'webhook.disabled':
    'The gateway has disabled another endpoint. `data` is that endpoint. Only endpoints that subscribe to this type get it.',
}

const [video] = VideoResource.examples
/** The video of the examples after each event. */
const exampleVideos: Record<EventType, object> = {
  'video.created': {},
  'video.uploaded': { stage: 'processing' },
  'video.upload-failed': {},
  'video.ready': readyVideo(),
  'video.failed': {
    status: 'error',
    stage: 'failed',
    error: { code: 'platform-processing-failed', message: 'The platform could not process the file.' },
  },
  'video.updated': { stage: 'processing', progress: 0.4 },
  'video.deleted': readyVideo(),
}

function readyVideo() {
  const [info] = VideoInfoResource.examples
  const [thumbnail] = ThumbnailResource.examples
  return { status: 'ready', stage: 'ready', info, thumbnail }
}

const text = (description: string, example: string) => ({
  required: true,
  description,
  schema: { type: 'string', examples: [example] },
})

/** Standard Webhooks, "Webhook metadata" and "Signature scheme". */
const headers = {
  'webhook-id': text(
    'Id of the event, the same if it arrives again: ignore an event that you have already processed.',
    exampleId,
  ),
  'webhook-timestamp': text(
    'Time of this attempt, in seconds since 1970. Reject one that is more than five minutes away.',
    '1795507202',
  ),
  'webhook-signature': text(
    '`v1,` and the HMAC-SHA256 of `{webhook-id}.{webhook-timestamp}.{body}` in base64, with the secret of the endpoint (the base64 after `whsec_`) as the key. Several are separated by spaces; one that matches is enough.',
    'v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=',
  ),
}

/** The events that the gateway sends to webhook endpoints, for `webhooks` of OpenAPI 3.1. */
export function documentedWebhooks() {
  const types = [...eventTypes, 'webhook.test', 'webhook.disabled'] as const
  return Object.fromEntries(types.map((type) => [type, { post: operation(type) }]))
}

function operation(type: AnyType) {
  return {
    operationId: `on${type.replaceAll(/(?:^|[.-])(\w)/g, (_, letter) => letter.toUpperCase())}`,
    summary: meanings[type].split(/[.:]/, 1)[0],
    description: `${meanings[type]} Delivered at least once, in any order; of two states, the one with the greater \`data.version\` is newer.`,
    tags: ['Webhook endpoints'],
    security: [],
    parameters: Object.entries(headers).map(([name, header]) => ({ name, in: 'header', ...header })),
    requestBody: {
      required: true,
      content: { 'application/json': { schema: payload(type), example: exampleOf(type) } },
    },
    responses: {
      '2XX': { description: 'Received. The response must come within 15 s; its body is ignored.' },
      410: { description: 'The endpoint wants nothing more: the gateway disables it.' },
      default: {
        description:
          'Not received, also for a redirect: the gateway sends the event again, later if `Retry-After` says so.',
      },
    },
  }
}

function isOfVideo(type: AnyType): type is EventType {
  return type.startsWith('video.')
}

function exampleOf(type: AnyType) {
  const data = isOfVideo(type) ? { ...video, ...exampleVideos[type] } : WebhookResource.examples[0]
  return { id: exampleId, type, timestamp: '2026-11-24T08:00:01.000Z', data }
}

function payload(type: AnyType) {
  const data = isOfVideo(type) ? 'Video' : 'Webhook'
  return {
    type: 'object',
    required: ['id', 'type', 'timestamp', 'data'],
    properties: {
      id: { type: 'string', description: 'Id of the event, as in `webhook-id`.' },
      type: { type: 'string', enum: [type] },
      timestamp: { type: 'string', format: 'date-time', description: 'Time of the change.' },
      data: { $ref: `#/components/schemas/${data}` },
    },
  }
}
