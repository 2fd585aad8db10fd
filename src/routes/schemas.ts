import { FormatRegistry, type TSchema, Type } from '@sinclair/typebox'

const nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()])
const time = (description: string) => Type.String({ format: 'date-time', description })

/** A replacement character is what is left of bytes that were no UTF-8. */
const isText = (text: string) => text.isWellFormed() && !/[\0\x80-\x9f\uFFFD]/.test(text)
FormatRegistry.Set('text', isText)
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what it is about
FormatRegistry.Set('line', (text) => isText(text) && !/[\x00-\x1f\x7f]/.test(text))

const id = '0192f0c1-7a3e-7c43-8f1d-3a5b6c7d8e9f'

/** Field limits: what every platform takes. PeerTube is the strictest with a title of 3 to 120 characters. */
const title = Type.String({
  minLength: 1,
  maxLength: 200,
  pattern: '\\S',
  format: 'line',
  description: 'shown by the platform; one line, without control characters',
  examples: ['Evening news'],
})
const description = Type.String({ maxLength: 5000, format: 'text', description: 'shown by the platform' })
const reference = Type.String({
  minLength: 1,
  maxLength: 200,
  format: 'line',
  description: 'the caller’s own id of the publication; one line',
  examples: ['cms-4711'],
})
const platform = Type.String({
  minLength: 1,
  maxLength: 50,
  description: 'where to publish; the default platform if absent',
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

/** The empty one comes first: Swagger UI fills a form's fields in with the first choice. */
const size = Type.Optional(
  Type.Union([Type.Literal(''), Type.Integer({ minimum: 1 })], {
    description:
      'Length of the file in bytes, before the part `file`. Most clients need not send it; those that get 411 must. Empty counts as absent.',
  }),
)
const file = Type.String({
  format: 'binary',
  description: 'The MP4, as `video/mp4` or `application/octet-stream`; the last part of the form.',
})
/** For the document only: the form is read as a stream. */
export const PublicationForm = Type.Object({ ...PublicationBody.properties, size, file })
export const ContentForm = Type.Object({ size, file })
export const ContentBody = Type.String({ format: 'binary', description: 'the mp4' })

const Status = Type.Union([Type.Literal('pending'), Type.Literal('ready'), Type.Literal('error')], {
  description: 'the stable three',
})
const Stage = Type.Union(
  ['awaiting-upload', 'uploading', 'processing', 'ready', 'failed'].map((stage) => Type.Literal(stage)),
  { description: 'the precise reason' },
)
const Failure = nullable(
  Type.Object({ code: Type.String({ examples: ['platform-processing-failed'] }), message: Type.String() }),
)
const Upload = Type.Object({
  url: Type.String({ format: 'uri', description: 'where the content goes, by `PUT` or as a form by `POST`' }),
  bytesReceived: Type.Integer(),
  bytesTotal: nullable(Type.Integer({ description: 'null while nobody knows' })),
})

export const VideoResource = Type.Object(
  {
    id: Type.String({ format: 'uuid', description: 'the gateway’s id (UUIDv7)' }),
    title: Type.String(),
    description: nullable(Type.String()),
    reference: nullable(Type.String()),
    platform: Type.Object({
      name: Type.String(),
      videoId: nullable(Type.String({ description: 'the platform’s identifier, null until it gave one' })),
    }),
    status: Status,
    stage: Stage,
    error: Failure,
    upload: Upload,
    createdAt: time('when it was created'),
    updatedAt: time('when it last changed'),
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
        error: null,
        upload: { url: `http://localhost:3000/v1/videos/${id}/content`, bytesReceived: 0, bytesTotal: null },
        createdAt: '2026-11-24T08:00:00.000Z',
        updatedAt: '2026-11-24T08:00:00.000Z',
      },
    ],
  },
)

export const VideoPage = Type.Object({
  items: Type.Array(Type.Ref('Video')),
  nextCursor: nullable(Type.String({ description: 'for the next page; null on the last one' })),
})

export const VideoStatus = Type.Object(
  {
    id: Type.String({ format: 'uuid' }),
    status: Status,
    stage: Stage,
    error: Failure,
    upload: Upload,
    checkedAt: nullable(time('when the platform was last asked')),
    nextCheckAt: nullable(time('when it will be asked again')),
  },
  {
    examples: [
      {
        id,
        status: 'pending',
        stage: 'processing',
        error: null,
        upload: {
          url: `http://localhost:3000/v1/videos/${id}/content`,
          bytesReceived: 1048576,
          bytesTotal: 1048576,
        },
        checkedAt: '2026-11-24T08:00:02.000Z',
        nextCheckAt: '2026-11-24T08:00:05.000Z',
      },
    ],
  },
)

export const VideoInfoResource = Type.Object(
  {
    launchUrl: Type.String({ format: 'uri' }),
    mimeType: Type.Union([Type.Literal('video/mp4'), Type.Literal('application/vnd.apple.mpegurl')]),
    width: Type.Integer({ description: 'pixels' }),
    height: Type.Integer({ description: 'pixels' }),
    duration: Type.Number({ description: 'seconds' }),
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
    width: Type.Integer({ description: 'pixels' }),
    height: Type.Integer({ description: 'pixels' }),
  },
  {
    examples: [
      { url: 'https://video.example/9f2c/poster.jpg', mimeType: 'image/jpeg', width: 640, height: 360 },
    ],
  },
)

/** RFC 9457, with a stable code. */
export const ProblemDocument = Type.Object(
  {
    type: Type.String({ description: '`/problems/{code}`: a page about it' }),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String(),
    instance: Type.String({ description: 'the path that was called' }),
    code: Type.String({ description: 'stable; what programs go by' }),
    requestId: Type.String({ description: 'finds the request in the log' }),
    errors: Type.Optional(Type.Array(Type.Object({ path: Type.String(), message: Type.String() }))),
  },
  { $id: 'Problem' },
)

export const IdParams = Type.Object({
  id: Type.String({ description: 'the gateway’s id', examples: [id] }),
})
