import { Readable } from 'node:stream'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { type Principal, principalKey } from '../auth/credentials.ts'
import { GatewayError } from '../errors.ts'
import type { StreamPlaces } from '../events/places.ts'
import { streamEvents } from '../events/stream.ts'
import type { Tail } from '../events/tail.ts'
import { departureOf } from '../http/departure.ts'
import { prefersEventStream } from '../http/preferences.ts'
import { eventTypes, type VideoEvent } from '../publication/events.ts'
import { EventPage } from './event-schemas.ts'
import type { RouteOptions } from './options.ts'
import { responses, securedBy } from './responses.ts'

/** Time that a reader has to accept one chunk, in ms. */
const chunkMs = 30_000
/** Time that a reader has for what was sent already once its stream ends, in ms. */
const endMs = 1_000
/** Node's timers hold no more. */
const longestTimerMs = 24 * 24 * 3_600_000

const cursor = (description: string) => Type.Optional(Type.String({ maxLength: 200, description }))

const Query = Type.Object(
  {
    after: cursor(
      'Cursor after which the events begin: `nextCursor` of a page, or the `id` of an event in a stream. A page without it begins with the oldest event, a stream with the next one.',
    ),
    video: Type.Optional(
      Type.String({ maxLength: 50, description: 'Only events of the video with this id.' }),
    ),
    type: Type.Optional(
      Type.Union(
        eventTypes.map((type) => Type.Literal(type)),
        { description: 'Only events of this type.' },
      ),
    ),
    limit: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 200,
        default: 50,
        description: 'Events per page. Not for streams.',
      }),
    ),
  },
  { additionalProperties: false },
)

export interface EventRouteOptions extends RouteOptions {
  tail: Tail
  places: StreamPlaces
  /** Ends all streams when it is aborted. Their readers connect again, here or elsewhere. */
  streaming: () => AbortSignal
}

/** The events of videos, as pages of a feed or as a stream. */
export const eventRoutes: FastifyPluginAsyncTypebox<EventRouteOptions> = async (
  app,
  { gateway, present, requireScope, tail, places, streaming },
) => {
  const { store, log } = gateway
  /** Caches the text of an event that many streams send. */
  const rendered = new WeakMap<VideoEvent, string>()
  const render = (event: VideoEvent) => {
    const text = rendered.get(event) ?? JSON.stringify(present.event(event))
    rendered.set(event, text)
    return text
  }

  app.get(
    '/v1/events',
    {
      // The head of a stream would have no end.
      exposeHeadRoute: false,
      onRequest: requireScope('videos:read'),
      schema: {
        operationId: 'listEvents',
        summary: 'Read events',
        description:
          'Returns the events of videos, oldest first. With `Accept: text/event-stream` the response is a stream of Server-Sent Events that continues with new events: `id` is the cursor, `event` the type, `data` the event as in a page, and a client that connects again with `Last-Event-ID` misses no event. Otherwise it is one page; pass its `nextCursor` as `after`, now or later, to get the next one. Events are kept for `EVENT_RETENTION` (30 days). An event may arrive more than once, and events of different videos in any order; `data.version` orders those of one video.',
        tags: ['Events'],
        security: securedBy('videos:read'),
        querystring: Query,
        headers: Type.Object({
          'last-event-id': cursor(
            'Cursor of the last event that was received. Takes precedence over `after`.',
          ),
        }),
        response: responses(
          {
            200: {
              description: 'A page of events, or a stream of them',
              content: {
                'application/json': { schema: EventPage },
                'text/event-stream': {
                  schema: Type.String({ description: 'Server-Sent Events (HTML Standard, section 9.2).' }),
                },
              },
            },
          },
          'cursor-expired',
          'too-many-streams',
          'shutting-down',
        ),
      },
    },
    async (request, reply) => {
      reply.header('vary', 'Accept')
      const { after, video, type, limit = 50 } = request.query
      const wantsStream = prefersEventStream(request.headers.accept)
      const given = (wantsStream && request.headers['last-event-id']) || after
      const range = await store.eventRange()
      const position = given === undefined ? undefined : positionOf(given)
      if (position !== undefined && (position > range.last || (position > 0 && position < range.first - 1)))
        throw new GatewayError('cursor-expired')
      if (wantsStream) return stream(request, reply, position ?? range.last, { video, type })
      const query = { after: position ?? 0, upTo: range.last, video, type, limit }
      const events = await store.events(query)
      const full = events.length === limit
      return {
        items: events.map(present.event),
        nextCursor: String((full && events.at(-1)?.position) || range.last),
      }
    },
  )

  function stream(
    request: FastifyRequest,
    reply: FastifyReply,
    after: number,
    filter: { video: string | undefined; type: VideoEvent['type'] | undefined },
  ) {
    const ending = streaming()
    if (ending.aborted) throw new GatewayError('shutting-down', undefined, { retryAfter: 1 })
    const principal = request.principal as Principal
    const giveBack = places.take(principalKey(principal))
    const { raw } = reply
    const expired = new AbortController()
    // A client that may still read connects again with a new token. A token within the clock tolerance has expired.
    const left = Math.max(0, (principal.expiresAt ?? Number.POSITIVE_INFINITY) - Date.now())
    const expiry = left < longestTimerMs ? setTimeout(() => expired.abort(), left).unref() : undefined
    const signal = AbortSignal.any([ending, expired.signal, departureOf(raw)])
    const end = () => {
      clearTimeout(expiry)
      giveBack()
      setTimeout(() => raw.destroy(), endMs).unref()
    }
    if (signal.aborted) end()
    else signal.addEventListener('abort', end, { once: true })
    const chunks = paced(streamEvents({ tail, store, after, filter, render, signal }), () => raw.destroy())
    const body = Readable.from(chunks, { objectMode: false })
    body.on('error', (err) => log.warn({ err }, 'an event stream has ended'))
    return reply
      .type('text/event-stream')
      .header('cache-control', 'no-store, no-transform')
      .header('x-accel-buffering', 'no')
      .send(body)
  }
}

/** Passes chunks on. Calls `giveUp` if a reader takes too long for one. */
async function* paced(chunks: AsyncGenerator<string>, giveUp: () => void): AsyncGenerator<string> {
  for await (const chunk of chunks) {
    const timer = setTimeout(giveUp, chunkMs).unref()
    try {
      yield chunk
    } finally {
      clearTimeout(timer)
    }
  }
}

function positionOf(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text)
  throw new GatewayError('invalid-request', undefined, {
    errors: [
      {
        path: 'after',
        message: 'is not a cursor of this feed: pass `nextCursor` of a page or `id` of a stream unchanged',
      },
    ],
  })
}
