import type { ServerResponse } from 'node:http'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { GatewayError } from '../errors.ts'
import type { Tail } from '../events/tail.ts'
import { waitForStage } from '../events/wait.ts'
import { departureOf } from '../http/departure.ts'
import { waitPreference } from '../http/preferences.ts'
import { backoffDelay } from '../publication/backoff.ts'
import { type Gateway, requireVideo } from '../publication/gateway.ts'
import { shownMetadata } from '../publication/metadata.ts'
import { freshVideo } from '../publication/refresh.ts'
import type { Stage, Video } from '../publication/video.ts'
import type { RouteOptions } from './options.ts'
import { json, responses, securedBy } from './responses.ts'
import { IdParams } from './schemas.ts'
import { ThumbnailResource, VideoInfoResource, VideoStatus } from './video-schemas.ts'

const urlsChange =
  'Platforms rename files and sign URLs that expire: read the URL when it is needed instead of storing it.'

const common = { security: securedBy('videos:read'), params: IdParams }

export interface StatusOptions extends RouteOptions {
  tail: Tail
  /** Ends all waits when it is aborted. */
  draining: AbortSignal
}

/** The status of a video, from the database alone, and its metadata, which the platform may change. */
export const statusRoutes: FastifyPluginAsyncTypebox<StatusOptions> = async (
  app,
  { gateway, present, requireScope, tail, draining },
) => {
  const onRequest = requireScope('videos:read')

  app.get(
    '/v1/videos/:id/status',
    {
      onRequest,
      schema: {
        ...common,
        operationId: 'getStatus',
        summary: 'Retrieve the status of a video',
        description:
          'Returns the processing status. While it is `pending`, wait `Retry-After` seconds before the next request, or send `Prefer: wait=N`: the response is then held back until stage or status changes, for at most N seconds.',
        tags: ['Status'],
        headers: Type.Object({
          prefer: Type.Optional(
            Type.String({
              maxLength: 1_000,
              description: '`wait=N` with N up to 60 seconds (RFC 7240). Other preferences are ignored.',
            }),
          ),
        }),
        response: responses(
          {
            200: {
              description: 'The status',
              headers: {
                'retry-after': {
                  type: 'string',
                  description:
                    'Seconds to wait before the next request; present while the status is `pending`.',
                },
                'preference-applied': {
                  type: 'string',
                  description: '`wait=N` where the gateway honored it, with the N that it used.',
                },
              },
              content: { 'application/json': { schema: VideoStatus } },
            },
          },
          'video-not-found',
          'video-deleted',
        ),
      },
    },
    async ({ params, headers }, reply) => {
      const wait = waitPreference(headers.prefer)
      if (wait !== undefined) {
        reply.header('preference-applied', `wait=${wait}`)
        await waitForNews(params.id, wait * 1000, reply.raw)
      }
      const video = await requireVideo(gateway, params.id)
      if (video.stage !== 'ready' && video.stage !== 'failed') {
        reply.header('retry-after', String(Math.max(1, Math.ceil(waitFor(gateway, video) / 1000))))
      }
      return present.status(video)
    },
  )

  async function waitForNews(id: string, ms: number, raw: ServerResponse): Promise<void> {
    const look = async () => {
      const video = await requireVideo(gateway, id)
      return video.stage === 'ready' || video.stage === 'failed' ? undefined : video
    }
    await waitForStage(tail, look, ms, AbortSignal.any([draining, departureOf(raw)]))
  }

  app.get(
    '/v1/videos/:id/info',
    {
      onRequest,
      schema: {
        ...common,
        operationId: 'getInfo',
        summary: 'Retrieve the launch URL and metadata',
        description: `Returns launch URL, MIME type, width, height and duration. Requires status \`ready\`. ${urlsChange}`,
        tags: ['Metadata'],
        response: responses(
          { 200: json('Video information', VideoInfoResource) },
          'video-not-found',
          'video-not-ready',
          'video-deleted',
        ),
      },
    },
    async ({ params }) => {
      const video = await freshVideo(gateway, params.id)
      const { info } = shownMetadata(video)
      if (!info) throw notReady(video.stage)
      return info
    },
  )

  app.get(
    '/v1/videos/:id/thumbnail',
    {
      onRequest,
      schema: {
        ...common,
        operationId: 'getThumbnail',
        summary: 'Retrieve the thumbnail',
        description: `Returns URL, MIME type, width and height of the thumbnail. Requires status \`ready\`. ${urlsChange}`,
        tags: ['Metadata'],
        response: responses(
          { 200: json('Thumbnail information', ThumbnailResource) },
          'video-not-found',
          'video-not-ready',
          'video-deleted',
        ),
      },
    },
    async ({ params }) => {
      const video = await freshVideo(gateway, params.id)
      const { thumbnail } = shownMetadata(video)
      if (!thumbnail) throw notReady(video.stage)
      return thumbnail
    },
  )
}

/**
 * Returns the delay before the status may change, in ms. While a check is in progress, the next check of the row is the
 * end of the poller's claim, long after the platform responds: so the delay is never longer than the backoff.
 */
function waitFor({ policy, store }: Gateway, { stage, nextCheckAt, checks }: Video): number {
  if (stage !== 'processing') return policy.backoff.initial
  return Math.min((nextCheckAt ?? 0) - store.now(), backoffDelay(policy.backoff, checks, 1))
}

function notReady(stage: Stage): GatewayError {
  const detail =
    stage === 'failed'
      ? 'The video failed and will not become ready. Its status has the reason.'
      : `The video is in stage ${stage}. Wait until its status is ready.`
  return new GatewayError('video-not-ready', detail)
}
