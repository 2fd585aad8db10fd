import type { SwaggerOptions } from '@fastify/swagger'
import type { allScopes } from '../auth/credentials.ts'
import { version } from '../config/version.ts'
import { documentedWebhooks } from './document-webhooks.ts'
import { ownFormats } from './schemas.ts'

// biome-ignore lint/suspicious/noExplicitAny: a JSON document of any depth
export type Document = any

const scopes = {
  'videos:read': 'Read videos, status and metadata.',
  'videos:write': 'Create videos and upload content.',
  'videos:delete': 'Delete videos.',
  'webhooks:manage': 'Manage webhook endpoints and their deliveries.',
} satisfies Record<(typeof allScopes)[number], string>

const description = `Publish videos on any supported platform through one API, in five steps:

1. \`POST /v1/videos\` creates a video: the gateway provisions a slot on the platform.
2. \`PUT /v1/videos/{id}/content\` uploads the MP4, which the gateway streams to the platform.
3. \`GET /v1/videos/{id}/status\` says when the video is \`ready\`.
4. \`GET /v1/videos/{id}/info\` returns the launch URL, \`GET /v1/videos/{id}/thumbnail\` the thumbnail.
5. \`DELETE /v1/videos/{id}\` deletes the video.

Every call under \`/v1\`, except for the webhooks of platforms, needs the header \`Authorization: Bearer TOKEN\`, where TOKEN is an API key or an access token. The operator of the gateway issues both.`

/** Parts of the OpenAPI document that are not in the routes, and its generation from their schemas. */
export const documentOptions: SwaggerOptions = {
  openapi: {
    openapi: '3.1.0',
    info: {
      title: 'Video gateway',
      version,
      description,
      contact: { name: 'Video gateway maintainers' },
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: '/' }],
    tags: [
      { name: 'Videos', description: 'Create, list, retrieve and delete videos.' },
      { name: 'Uploads', description: 'Upload the MP4; the gateway streams it to the platform.' },
      { name: 'Status', description: 'Follow the processing of a video.' },
      { name: 'Events', description: 'Follow changes of videos.' },
      { name: 'Webhook endpoints', description: 'Let the gateway call you when something happens.' },
      { name: 'Metadata', description: 'Retrieve the launch URL and thumbnail of a ready video.' },
      { name: 'Platform webhooks', description: 'Called by the platforms, never by your back office.' },
      { name: 'Access tokens', description: 'Create and verify access tokens.' },
      { name: 'Health and metrics', description: 'Probe and monitor the gateway.' },
    ],
    components: {
      securitySchemes: {
        apiKey: { type: 'http', scheme: 'bearer', description: 'A permanent API key, or an access token' },
        oauth2: { type: 'oauth2', flows: { clientCredentials: { tokenUrl: '/oauth2/token', scopes } } },
      },
    },
  },
  refResolver: {
    buildLocalReference: (schema, _base, _fragment, index) => String(schema.$id ?? `schema-${index}`),
  },
  transformObject: (documents) =>
    'openapiObject' in documents
      ? { ...splitCreation(plain(documents.openapiObject)), webhooks: documentedWebhooks() }
      : documents.swaggerObject,
}

/** The creation as a form, which is an operation of its own in the document. */
const creationWithContent = {
  operationId: 'createVideoWithContent',
  summary: 'Create a video with its content',
  description:
    'Provisions a slot on the platform and uploads the content in the same call. Send a form with the fields first and the part `file` last. If the upload fails, no video remains. Send an `Idempotency-Key` to make the request safe to retry.',
}

/**
 * Moves the form of `POST /v1/videos` to a path item of its own. Generators make one function per operation, and guess
 * the media type if there are two: they send JSON without its type, or never the form. A fragment is not part of a
 * request (RFC 9110 §7.1), so both operations are the same call.
 */
function splitCreation(document: Document): Document {
  const { post } = document.paths['/v1/videos']
  const { 'multipart/form-data': form, ...others } = post.requestBody.content
  const { requestBody, ...rest } = post
  requestBody.content = others
  const paths: [string, unknown][] = Object.entries(document.paths)
  const item = {
    post: { ...rest, ...creationWithContent, requestBody: { content: { 'multipart/form-data': form } } },
  }
  item.post.requestBody.required = requestBody.required
  paths.splice(1 + paths.findIndex(([path]) => path === '/v1/videos'), 0, ['/v1/videos#form', item])
  return { ...document, paths: Object.fromEntries(paths) }
}

/** Schemas as other tools know them: an enum instead of a choice of constants, and no formats of the gateway's own. */
function plain(value: Document): Document {
  if (Array.isArray(value)) return value.map(plain)
  if (value === null || typeof value !== 'object') return value
  const { anyOf, format, ...rest } = value
  const copy = Object.fromEntries(Object.entries(rest).map(([name, member]) => [name, plain(member)]))
  const constants = Array.isArray(anyOf) && anyOf.map(constantOf)
  if (constants && !constants.includes(undefined)) return { ...copy, type: 'string', enum: constants }
  return {
    ...copy,
    ...(anyOf !== undefined && { anyOf: plain(anyOf) }),
    ...(format !== undefined && !ownFormats.includes(format) && { format: plain(format) }),
  }
}

/** @fastify/swagger writes a constant as an enum of one. */
function constantOf(schema: Document): string | undefined {
  return schema.type === 'string' && schema.enum?.length === 1 ? schema.enum[0] : schema.const
}
