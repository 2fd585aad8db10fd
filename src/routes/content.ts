import multipart from '@fastify/multipart'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { GatewayError } from '../errors.ts'
import { readForm } from '../http/multipart.ts'
import { upload } from '../publication/upload.ts'
import { answers, platformFailures, securedBy } from './answers.ts'
import type { RouteOptions } from './options.ts'
import { ContentBody, ContentForm, IdParams } from './schemas.ts'

const common = {
  tags: ['Content'],
  security: securedBy('videos:write'),
  params: IdParams,
  response: answers(
    { 204: { type: 'null', description: 'The platform has the content' } },
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
const description =
  'Streamed through to the platform. After a failed or cut upload the video is back at `awaiting-upload` and takes a new one.'

/** The content of a video, raw or as a form. In a scope of its own: no other type of body is read here. */
export const contentRoutes: FastifyPluginAsyncTypebox<RouteOptions> = async (
  app,
  { gateway, requireScope },
) => {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('video/mp4', (_request, _payload, done) => done(null))
  await app.register(multipart)

  app.put(
    '/v1/videos/:id/content',
    {
      onRequest: requireScope('videos:write'),
      schema: {
        ...common,
        operationId: 'putContent',
        summary: 'Upload the content',
        description,
        body: { content: { 'video/mp4': { schema: ContentBody } } },
      },
    },
    async ({ params, raw, headers }, reply) => {
      if (headers['content-type'] === undefined)
        throw new GatewayError('unsupported-media-type', 'send Content-Type: video/mp4')
      // A part would be taken for the whole (RFC 9110 §14.5).
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
        summary: 'Upload the content as a form',
        description,
        body: { content: { 'multipart/form-data': { schema: ContentForm } } },
      },
    },
    async (request, reply) => {
      const { incoming } = await readForm(request, [])
      await upload(gateway, request.params.id, incoming)
      return reply.code(204).send()
    },
  )
}
