import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { GatewayError } from '../errors.ts'
import { isForm, readForm } from '../http/multipart.ts'
import { isContentType } from '../http/part.ts'
import { upload } from '../publication/upload.ts'
import type { RouteOptions } from './options.ts'
import { platformFailures, responses, securedBy } from './responses.ts'
import { IdParams } from './schemas.ts'
import { ContentBody, ContentForm } from './video-schemas.ts'

const common = {
  tags: ['Uploads'],
  security: securedBy('videos:write'),
  params: IdParams,
  response: responses(
    { 204: { type: 'null', description: 'Content uploaded' } },
    'incomplete-upload',
    'video-not-found',
    'upload-timeout',
    'upload-in-progress',
    'content-already-uploaded',
    'video-deleted',
    'length-required',
    'content-too-large',
    'unsupported-media-type',
    'shutting-down',
    ...platformFailures,
  ),
}

/** The content of a video, raw or as a form. In a scope of its own: every body is a stream here. */
export const contentRoutes: FastifyPluginAsyncTypebox<RouteOptions> = async (
  app,
  { gateway, requireScope },
) => {
  app.removeAllContentTypeParsers()
  // The handlers say of other types what to send instead.
  app.addContentTypeParser('*', (_request, _payload, done) => done(null))

  app.put(
    '/v1/videos/:id/content',
    {
      onRequest: requireScope('videos:write'),
      schema: {
        ...common,
        operationId: 'putContent',
        summary: 'Upload content',
        description:
          'Streams the MP4 to the platform and returns 204 when the platform has accepted every byte. After a failed upload the video is `awaiting-upload` again; upload from the first byte.',
        body: {
          content: {
            'video/mp4': { schema: ContentBody },
            'application/octet-stream': { schema: ContentBody },
          },
        },
      },
    },
    async ({ params, raw, headers, mediaType }, reply) => {
      if (isForm(mediaType))
        throw new GatewayError(
          'unsupported-media-type',
          'Send a form with POST. With PUT, send the bytes of the MP4 alone, with Content-Type: video/mp4.',
        )
      if (mediaType !== undefined && !isContentType(mediaType))
        throw new GatewayError(
          'unsupported-media-type',
          'Send an MP4 with Content-Type: video/mp4, application/octet-stream or none.',
        )
      // RFC 9110 §14.5: 400 for a PUT with Content-Range if the resource does not support partial PUT.
      if (headers['content-range'] !== undefined)
        throw new GatewayError('invalid-request', undefined, {
          errors: [{ path: 'content-range', message: 'is not supported: send the whole file' }],
        })
      const length = headers['content-length']
      await upload(gateway, params.id, { source: raw, size: length === undefined ? null : Number(length) })
      return reply.code(204).send()
    },
  )

  app.post(
    '/v1/videos/:id/content',
    {
      onRequest: requireScope('videos:write'),
      schema: {
        ...common,
        operationId: 'postContent',
        summary: 'Upload content as a form',
        description: 'Same as `PUT`, with the MP4 in the part `file` of a `multipart/form-data` body.',
        body: { content: { 'multipart/form-data': { schema: ContentForm } } },
      },
    },
    async (request, reply) => {
      if (!isForm(request.mediaType))
        throw new GatewayError(
          'unsupported-media-type',
          'Send multipart/form-data with the MP4 in the part `file`. Send the MP4 alone with PUT.',
        )
      const { incoming } = await readForm(request, [])
      await upload(gateway, request.params.id, incoming)
      return reply.code(204).send()
    },
  )
}
