import { Type } from '@sinclair/typebox'
import { exampleId, exampleOrigin, nullable, time } from './schemas.ts'

/** Field limits that every platform accepts. PeerTube is the strictest with a title of 3 to 120 characters. */
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
      'Length of the file in bytes, before the part `file`. Required only if the response is 411 without it.',
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
    description: 'Completed share of the processing; null if the platform does not report it.',
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
        id: exampleId,
        title: 'Evening news',
        description: 'Of the day',
        reference: 'cms-4711',
        platform: { name: 'sandbox', videoId: 'clip_9f2c' },
        status: 'pending',
        stage: 'awaiting-upload',
        progress: null,
        error: null,
        upload: {
          url: `${exampleOrigin}/v1/videos/${exampleId}/content`,
          bytesReceived: 0,
          bytesTotal: null,
        },
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
        id: exampleId,
        status: 'pending',
        stage: 'processing',
        progress: 0.4,
        error: null,
        upload: {
          url: `${exampleOrigin}/v1/videos/${exampleId}/content`,
          bytesReceived: 1048576,
          bytesTotal: 1048576,
        },
        checkedAt: '2026-11-24T08:00:02.000Z',
        nextCheckAt: '2026-11-24T08:00:05.000Z',
      },
    ],
  },
)
