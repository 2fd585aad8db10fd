import { type Static, Type } from '@sinclair/typebox'

export const variables = Type.Object({
  MUX_TOKEN_ID: Type.String({
    minLength: 1,
    description: 'id of an access token with read and write permission for Mux Video',
  }),
  MUX_TOKEN_SECRET: Type.String({ minLength: 1, description: 'secret of the access token' }),
  MUX_VIDEO_QUALITY: Type.Optional(
    Type.Union([Type.Literal('basic'), Type.Literal('plus'), Type.Literal('premium')], {
      description: 'quality of new videos: `basic`, `plus` or `premium`; the account’s default by default',
    }),
  ),
  MUX_WEBHOOK_SECRET: Type.Optional(
    Type.String({
      description:
        'signing secret of a webhook to `/v1/platforms/mux/webhook`; several, comma-separated. Without it the gateway accepts no webhooks',
    }),
  ),
  MUX_BASE_URL: Type.String({
    default: 'https://api.mux.com',
    format: 'url',
    description: 'base URL of the API',
  }),
})

export type Variables = Static<typeof variables>
