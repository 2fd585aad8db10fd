import { FormatRegistry, type TSchema, Type } from '@sinclair/typebox'
import { eventTypes } from '../publication/events.ts'

export const nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()])
export const time = (description: string) => Type.String({ format: 'date-time', description })

/** A replacement character is what is left of bytes that were no UTF-8. */
const isText = (text: string) => text.isWellFormed() && !/[\0\x80-\x9f\uFFFD]/.test(text)
FormatRegistry.Set('text', isText)
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what it is about
FormatRegistry.Set('line', (text) => isText(text) && !/[\x00-\x1f\x7f]/.test(text))
/** Formats that validation alone knows: the document describes them in words. */
export const ownFormats = ['text', 'line']

const id = '0192f0c1-7a3e-7c43-8f1d-3a5b6c7d8e9f'
/** Stands for the gateway's own address in examples. */
export const exampleOrigin = 'https://video-gateway.example'

/** Field limits: what every platform takes. PeerTube is the strictest with a title of 3 to 120 characters. */
const title = Type.String({
  minLength: 1,
  maxLength: 200,
  pattern: '\\S',
  format: 'line',
  description: 'Title shown on the platform; one line, without control characters.',
  examples: ['Evening news'],
})
const description = Type.String({
  maxLength: 5000,
  format: 'text',
  description: 'Description shown on the platform.',
  examples: ['Of the day'],
})
const reference = Type.String({
  minLength: 1,
  maxLength: 200,
  format: 'line',
  description: 'Your own id for this video; one line. Find the video with `?reference=`.',
  examples: ['cms-4711'],
})
const platform = Type.String({
  minLength: 1,
  maxLength: 50,
  description: 'Platform to publish on; defaults to the gateway’s default platform.',
})

export const PublicationBody = Type.Object(
  {
    title,
    description: Type.Optional(description),
    reference: Type.Optional(reference),
    platform: Type.Optional(platform),
  },
  {
    additionalProperties: false,
    examples: [{ title: 'Evening news', description: 'Of the day', reference: 'cms-4711' }],
  },
)

const size = Type.Optional(
  Type.Integer({
    minimum: 1,
    description:
      'Length of the file in bytes, before the part `file`. Most clients need not send it; those that get 411 must.',
  }),
)
const file = Type.String({
  format: 'binary',
  description: 'The MP4, as `video/mp4` or `application/octet-stream`; the last part of the form.',
})
/** For the document only: the form is read as a stream. */
export const PublicationForm = Type.Object({ ...PublicationBody.properties, size, file })
export const ContentForm = Type.Object({ size, file })
export const ContentBody = Type.String({ format: 'binary', description: 'The bytes of the MP4.' })

const Status = Type.Union([Type.Literal('pending'), Type.Literal('ready'), Type.Literal('error')], {
  description:
    '`pending` until the video can be played, then `ready`; `error` if it never will be. Base your program on this field.',
})
const Stage = Type.Union(
  ['awaiting-upload', 'uploading', 'processing', 'ready', 'failed'].map((stage) => Type.Literal(stage)),
  { description: 'Detailed step behind `status`, for progress displays.' },
)
const Failure = nullable(
  Type.Object({ code: Type.String({ examples: ['platform-processing-failed'] }), message: Type.String() }),
)
const Upload = Type.Object({
  url: Type.String({
    format: 'uri',
    description: 'URL that accepts the content, by `PUT` or as a form by `POST`.',
  }),
  bytesReceived: Type.Integer({ description: 'Bytes received so far.' }),
  bytesTotal: nullable(Type.Integer({ description: 'Size in bytes; null while unknown.' })),
})

const Progress = nullable(
  Type.Number({
    minimum: 0,
    maximum: 1,
    description: 'Share of the processing that is done, where the platform tells; else null.',
  }),
)

export const VideoInfoResource = Type.Object(
  {
    launchUrl: Type.String({ format: 'uri' }),
    mimeType: Type.Union([Type.Literal('video/mp4'), Type.Literal('application/vnd.apple.mpegurl')]),
    width: Type.Integer({ description: 'Pixels.' }),
    height: Type.Integer({ description: 'Pixels.' }),
    duration: Type.Number({ description: 'Seconds.' }),
  },
  {
    examples: [
      {
        launchUrl: 'https://video.example/9f2c/index.m3u8',
        mimeType: 'application/vnd.apple.mpegurl',
        width: 1280,
        height: 720,
        duration: 12.48,
      },
    ],
  },
)

export const ThumbnailResource = Type.Object(
  {
    url: Type.String({ format: 'uri' }),
    mimeType: Type.Union([Type.Literal('image/jpeg'), Type.Literal('image/png')]),
    width: Type.Integer({ description: 'Pixels.' }),
    height: Type.Integer({ description: 'Pixels.' }),
  },
  {
    examples: [
      { url: 'https://video.example/9f2c/poster.jpg', mimeType: 'image/jpeg', width: 640, height: 360 },
    ],
  },
)

export const VideoResource = Type.Object(
  {
    id: Type.String({ format: 'uuid', description: 'The gateway’s id of the video (UUIDv7).' }),
    title: Type.String(),
    description: nullable(Type.String()),
    reference: nullable(Type.String()),
    platform: Type.Object({
      name: Type.String(),
      videoId: nullable(
        Type.String({ description: 'Id on the platform; null until the platform assigns one.' }),
      ),
    }),
    status: Status,
    stage: Stage,
    progress: Progress,
    error: Failure,
    upload: Upload,
    info: nullable(VideoInfoResource),
    thumbnail: nullable(ThumbnailResource),
    version: Type.Integer({
      description: 'Grows with every change: of two states of a video, the newer one has the greater number.',
    }),
    createdAt: time('Time of the creation.'),
    updatedAt: time('Time of the last change.'),
  },
  {
    $id: 'Video',
    examples: [
      {
        id,
        title: 'Evening news',
        description: 'Of the day',
        reference: 'cms-4711',
        platform: { name: 'sandbox', videoId: 'clip_9f2c' },
        status: 'pending',
        stage: 'awaiting-upload',
        progress: null,
        error: null,
        upload: { url: `${exampleOrigin}/v1/videos/${id}/content`, bytesReceived: 0, bytesTotal: null },
        info: null,
        thumbnail: null,
        version: 2,
        createdAt: '2026-11-24T08:00:00.000Z',
        updatedAt: '2026-11-24T08:00:00.000Z',
      },
    ],
  },
)

export const VideoPage = Type.Object({
  items: Type.Array(Type.Ref('Video')),
  nextCursor: nullable(
    Type.String({ description: 'Pass it as `cursor` to get the next page; null on the last page.' }),
  ),
})

export const VideoEvent = Type.Object(
  {
    id: Type.String({ description: 'Id of the event. The same one if it comes again.' }),
    type: Type.Union(
      eventTypes.map((type) => Type.Literal(type)),
      { description: 'What happened; `video.updated` is any other change.' },
    ),
    timestamp: time('Time of the change.'),
    data: Type.Ref('Video'),
  },
  { $id: 'Event' },
)

export const EventPage = Type.Object({
  items: Type.Array(Type.Ref('Event')),
  nextCursor: Type.String({
    description: 'Pass it as `after` to read on, also when the page was empty: later events come after it.',
  }),
})

export const VideoStatus = Type.Object(
  {
    id: Type.String({ format: 'uuid' }),
    status: Status,
    stage: Stage,
    progress: Progress,
    error: Failure,
    upload: Upload,
    checkedAt: nullable(time('Time of the last check on the platform.')),
    nextCheckAt: nullable(time('Time of the next check on the platform.')),
  },
  {
    examples: [
      {
        id,
        status: 'pending',
        stage: 'processing',
        progress: 0.4,
        error: null,
        upload: {
          url: `${exampleOrigin}/v1/videos/${id}/content`,
          bytesReceived: 1048576,
          bytesTotal: 1048576,
        },
        checkedAt: '2026-11-24T08:00:02.000Z',
        nextCheckAt: '2026-11-24T08:00:05.000Z',
      },
    ],
  },
)

/** RFC 9457, with a stable code. */
export const ProblemDocument = Type.Object(
  {
    type: Type.String({ description: 'Path of a page that explains the error: `/problems/{code}`.' }),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String(),
    instance: Type.String({ description: 'Request path.' }),
    code: Type.String({ description: 'Stable error code; branch on it.' }),
    requestId: Type.String({
      description: 'Id of this request in the gateway’s log; send it to the operator.',
    }),
    errors: Type.Optional(Type.Array(Type.Object({ path: Type.String(), message: Type.String() }))),
  },
  { $id: 'Problem' },
)

export const IdParams = Type.Object({
  id: Type.String({ description: 'The gateway’s id of the video.', examples: [id] }),
})
