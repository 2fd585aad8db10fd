import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { principalKey } from '../auth/credentials.ts'
import { GatewayError } from '../errors.ts'
import { valuesOf } from '../http/connections.ts'
import { isForm, readForm } from '../http/multipart.ts'
import { invalidField } from '../http/part.ts'
import { validate } from '../http/validation.ts'
import { platformDefinitions } from '../platform/registry.ts'
import { deleteVideo } from '../publication/delete.ts'
import { requireVideo } from '../publication/gateway.ts'
import { type IdempotencyKey, type PublishResult, publish } from '../publication/publish.ts'
import { decodeCursor, encodeCursor } from './cursors.ts'
import type { RouteOptions } from './options.ts'
import { json, platformFailures, responses, securedBy } from './responses.ts'
import { IdParams } from './schemas.ts'
import { PublicationBody, PublicationForm, VideoPage } from './video-schemas.ts'

const Query = Type.Object(
  {
    status: Type.Optional(
      Type.Union([Type.Literal('pending'), Type.Literal('ready'), Type.Literal('error')], {
        description: 'Only videos with this status.',
      }),
    ),
    platform: Type.Optional(Type.String({ maxLength: 50, description: 'Only videos on this platform.' })),
    reference: Type.Optional(
      Type.String({ maxLength: 200, description: 'Only videos with this reference.' }),
    ),
    limit: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 200, default: 50, description: 'Videos per page.' }),
    ),
    cursor: Type.Optional(Type.String({ maxLength: 200, description: '`nextCursor` of the previous page.' })),
  },
  { additionalProperties: false },
)

const CreateHeaders = Type.Object({
  'idempotency-key': Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 255,
      description:
        'Unique key for this creation, up to 255 characters; makes the request safe to retry for 24 hours.',
    }),
  ),
})

/** Routes that create, retrieve, list and delete videos. */
export const videoRoutes: FastifyPluginAsyncTypebox<RouteOptions> = async (
  app,
  { gateway, present, requireScope },
) => {
  app.addContentTypeParser('multipart/form-data', (_request, _payload, done) => done(null))
  app.post(
    '/v1/videos',
    {
      onRequest: requireScope('videos:write'),
      schema: {
        operationId: 'createVideo',
        summary: 'Create a video',
        description:
          'Provisions a slot on the platform and returns the video. Upload its content next. Send an `Idempotency-Key` to make the request safe to retry.',
        tags: ['Videos'],
        security: securedBy('videos:write'),
        headers: CreateHeaders,
        body: {
          content: {
            'application/json': { schema: PublicationBody },
            'multipart/form-data': { schema: PublicationForm },
          },
        },
        response: responses(
          {
            201: {
              description: 'The video',
              headers: {
                location: { type: 'string', format: 'uri-reference', description: 'Path of the new video.' },
                'idempotency-replayed': {
                  type: 'string',
                  description: '`true` if this is the response to an earlier request with the same key.',
                },
              },
              content: { 'application/json': { schema: Type.Ref('Video') } },
            },
          },
          'incomplete-upload',
          'upload-timeout',
          'idempotency-key-in-progress',
          'video-deleted',
          'length-required',
          'content-too-large',
          'unsupported-media-type',
          'idempotency-key-reused',
          'shutting-down',
          ...platformFailures,
        ),
      },
    },
    async (request, reply) => {
      const key = idempotencyKey(request)
      if (!isForm(request.mediaType)) {
        if (request.body === undefined)
          throw new GatewayError('unsupported-media-type', 'Send application/json or multipart/form-data.')
        return created(reply, await publish(gateway, validate(PublicationBody, request.body), { key }))
      }
      const { fields, incoming } = await readForm(request, Object.keys(PublicationBody.properties))
      if (fields.title === undefined)
        throw invalidField('title', 'is required; put the fields before the part `file`, which is the last')
      const publication = validate(PublicationBody, withoutEmptyOptions(fields))
      return created(reply, await publish(gateway, publication, { key, incoming }))
    },
  )

  app.get(
    '/v1/videos',
    {
      onRequest: requireScope('videos:read'),
      schema: {
        operationId: 'listVideos',
        summary: 'List videos',
        description:
          'Returns videos, newest first, one page at a time. Pass `nextCursor` as `cursor` to get the next page.',
        tags: ['Videos'],
        security: securedBy('videos:read'),
        querystring: Query,
        response: responses({ 200: json('A page of videos', VideoPage) }),
      },
    },
    async ({ query }) => {
      const { status, platform, reference, limit = 50 } = query
      if (platform !== undefined) expectKnownPlatform(platform)
      const before = query.cursor === undefined ? undefined : decodeCursor(query.cursor)
      const videos = await gateway.store.list({ status, platform, reference, before, limit: limit + 1 })
      const page = videos.slice(0, limit)
      return {
        items: page.map(present.video),
        nextCursor: videos.length > limit ? encodeCursor(page.at(-1)?.id ?? '') : null,
      }
    },
  )

  app.get(
    '/v1/videos/:id',
    {
      onRequest: requireScope('videos:read'),
      schema: {
        operationId: 'getVideo',
        summary: 'Retrieve a video',
        description: 'Returns the video with its status, stage and upload URL.',
        tags: ['Videos'],
        security: securedBy('videos:read'),
        params: IdParams,
        response: responses(
          { 200: json('The video', Type.Ref('Video')) },
          'video-not-found',
          'video-deleted',
        ),
      },
    },
    async ({ params }) => present.video(await requireVideo(gateway, params.id)),
  )

  app.delete(
    '/v1/videos/:id',
    {
      onRequest: requireScope('videos:delete'),
      schema: {
        operationId: 'deleteVideo',
        summary: 'Delete a video',
        description:
          'Deletes the video here and on the platform, and aborts an upload in progress. Deleting a deleted video returns 204. If the platform fails, the call returns its error, the video stays deleted here, and the gateway retries in the background.',
        tags: ['Videos'],
        security: securedBy('videos:delete'),
        params: IdParams,
        response: responses(
          { 204: { type: 'null', description: 'Video deleted' } },
          'video-not-found',
          ...platformFailures,
        ),
      },
    },
    async ({ params }, reply) => {
      await deleteVideo(gateway, params.id)
      return reply.code(204).send()
    },
  )

  function created(reply: FastifyReply, { video, replayed }: PublishResult) {
    reply.code(201).header('location', present.path(video.id))
    if (replayed) reply.header('idempotency-replayed', 'true')
    return present.video(video)
  }
}

/** A form on a web page also sends the fields that were not filled in. Those that are optional count as absent. */
function withoutEmptyOptions(fields: Record<string, string>): Record<string, string> {
  const required: readonly string[] = PublicationBody.required ?? []
  const given = ([name, value]: [string, string]) => value !== '' || required.includes(name)
  return Object.fromEntries(Object.entries(fields).filter(given))
}

function idempotencyKey(request: FastifyRequest): IdempotencyKey | undefined {
  if (valuesOf(request.raw, 'idempotency-key').length > 1)
    throw new GatewayError('invalid-request', undefined, {
      errors: [{ path: 'idempotency-key', message: 'occurs more than once' }],
    })
  const key = request.headers['idempotency-key']
  if (typeof key !== 'string' || !request.principal) return undefined
  return { client: principalKey(request.principal), key }
}

/** Accepts every platform that has an adapter: one that is no longer configured may still have videos. */
function expectKnownPlatform(platform: string): void {
  const names = platformDefinitions.map(({ name }) => name)
  if (names.includes(platform)) return
  const message = `must be one of ${names.join(', ')}`
  throw new GatewayError('invalid-request', undefined, { errors: [{ path: 'platform', message }] })
}
