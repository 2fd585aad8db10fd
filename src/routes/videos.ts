import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { principalKey } from '../auth/credentials.ts'
import { GatewayError } from '../errors.ts'
import { isForm, readForm } from '../http/multipart.ts'
import { invalidField } from '../http/part.ts'
import { validate } from '../http/validation.ts'
import { platformDefinitions } from '../platform/registry.ts'
import { visibleVideo } from '../publication/gateway.ts'
import { type IdempotencyKey, type Published, publish } from '../publication/publish.ts'
import { remove } from '../publication/remove.ts'
import { answers, json, platformFailures, securedBy } from './answers.ts'
import type { RouteOptions } from './options.ts'
import { IdParams, PublicationBody, PublicationForm, VideoPage } from './schemas.ts'

const Query = Type.Object(
  {
    status: Type.Optional(
      Type.Union([Type.Literal('pending'), Type.Literal('ready'), Type.Literal('error')]),
    ),
    platform: Type.Optional(Type.String({ maxLength: 50 })),
    reference: Type.Optional(Type.String({ maxLength: 200, description: 'the caller’s own id' })),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 200, default: 50 })),
    cursor: Type.Optional(Type.String({ maxLength: 200, description: '`nextCursor` of the page before' })),
  },
  { additionalProperties: false },
)

const CreateHeaders = Type.Object({
  'idempotency-key': Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 255,
      description: 'marks a request that may be sent again',
    }),
  ),
})

/** The publications themselves: create, look at, list, delete. */
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
          'Provisions a slot on the platform. As a form, with the fields first and the part `file` last, the content is uploaded in the same call: all or nothing, a failed upload leaves no video behind.',
        tags: ['Videos'],
        security: securedBy('videos:write'),
        headers: CreateHeaders,
        body: {
          content: {
            'application/json': { schema: PublicationBody },
            'multipart/form-data': { schema: PublicationForm },
          },
        },
        response: answers(
          {
            201: {
              description: 'The video',
              headers: {
                location: { type: 'string', format: 'uri-reference', description: 'its path' },
                'idempotency-replayed': {
                  type: 'string',
                  description: '`true` when an earlier answer is given again',
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
      return created(reply, await publish(gateway, validate(PublicationBody, fields), { key, incoming }))
    },
  )

  app.get(
    '/v1/videos',
    {
      onRequest: requireScope('videos:read'),
      schema: {
        operationId: 'listVideos',
        summary: 'List videos, newest first',
        description:
          'Returns one page. `nextCursor` fetches the next page; it is null on the last one. Deleted videos are not listed.',
        tags: ['Videos'],
        security: securedBy('videos:read'),
        querystring: Query,
        response: answers({ 200: json('A page of videos', VideoPage) }),
      },
    },
    async ({ query }) => {
      const { status, platform, reference, limit = 50 } = query
      if (platform !== undefined) expectKnownPlatform(platform)
      const before = query.cursor === undefined ? undefined : decodeCursor(query.cursor)
      const videos = gateway.store.list({ status, platform, reference, before, limit: limit + 1 })
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
        summary: 'Look at a video',
        description: 'Returns the video as the gateway knows it, without a call to the platform.',
        tags: ['Videos'],
        security: securedBy('videos:read'),
        params: IdParams,
        response: answers({ 200: json('The video', Type.Ref('Video')) }, 'video-not-found', 'video-deleted'),
      },
    },
    async ({ params }) => present.video(visibleVideo(gateway, params.id)),
  )

  app.delete(
    '/v1/videos/:id',
    {
      onRequest: requireScope('videos:delete'),
      schema: {
        operationId: 'deleteVideo',
        summary: 'Delete a video',
        description: 'Removes it from the platform, an upload under way included. Deleting it again is fine.',
        tags: ['Removal'],
        security: securedBy('videos:delete'),
        params: IdParams,
        response: answers(
          { 204: { type: 'null', description: 'It is gone' } },
          'video-not-found',
          ...platformFailures,
        ),
      },
    },
    async ({ params }, reply) => {
      await remove(gateway, params.id)
      return reply.code(204).send()
    },
  )

  function created(reply: FastifyReply, { video, replayed }: Published) {
    reply.code(201).header('location', present.path(video.id))
    if (replayed) reply.header('idempotency-replayed', 'true')
    return present.video(video)
  }
}

function idempotencyKey(request: FastifyRequest): IdempotencyKey | undefined {
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

function encodeCursor(id: string): string {
  return Buffer.from(id).toString('base64url')
}

function decodeCursor(cursor: string): string {
  const id = Buffer.from(cursor, 'base64url').toString()
  if (/^[0-9a-f-]{36}$/.test(id) && encodeCursor(id) === cursor) return id
  throw new GatewayError('invalid-request', undefined, {
    errors: [{ path: 'cursor', message: 'is not a cursor of this list' }],
  })
}
