import { type Static, Type } from '@sinclair/typebox'

export const variables = Type.Object({
  PEERTUBE_BASE_URL: Type.String({ format: 'url', description: 'URL of the instance' }),
  PEERTUBE_USERNAME: Type.String({ minLength: 1, description: 'account that publishes' }),
  PEERTUBE_PASSWORD: Type.String({ minLength: 1, description: 'password of the account' }),
  PEERTUBE_CHANNEL_ID: Type.Optional(
    Type.Integer({
      minimum: 1,
      description: 'id of the channel to publish in; the account’s first channel by default',
    }),
  ),
  PEERTUBE_PRIVACY: Type.Integer({
    default: 1,
    minimum: 1,
    maximum: 4,
    description: 'privacy of new videos: 1 public, 2 unlisted, 3 private, 4 internal',
  }),
  PEERTUBE_CHUNK_SIZE: Type.Integer({
    default: 16 * 2 ** 20,
    minimum: 1,
    description: 'chunk size in bytes; each upload holds one chunk in memory',
  }),
})

export type Variables = Static<typeof variables>
