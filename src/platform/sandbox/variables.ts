import { type Static, Type } from '@sinclair/typebox'

export const variables = Type.Object({
  SANDBOX_BASE_URL: Type.String({
    format: 'url',
    description: 'URL of the sandbox platform',
    missing:
      'set it to the address of a running sandbox, or leave PLATFORM unset outside production: the gateway then starts one itself',
  }),
  SANDBOX_CLIENT_ID: Type.String({ default: 'sandbox', description: 'OAuth2 client id on the sandbox' }),
  SANDBOX_CLIENT_SECRET: Type.String({
    default: 'sandbox-secret',
    description: 'secret of the OAuth2 client',
  }),
  SANDBOX_WEBHOOK_SECRET: Type.Optional(
    Type.String({
      description:
        'secret of the sandbox’s webhooks to `/v1/platforms/sandbox/webhook`; several, comma-separated. Without it the gateway accepts no webhooks',
    }),
  ),
  SANDBOX_LENGTH_REQUIRED: Type.Union([Type.Literal('true'), Type.Literal('false')], {
    default: 'false',
    description: '`true`: uploads require their length, as on Mux, PeerTube and Cloudflare Stream',
  }),
})

export type Variables = Static<typeof variables>
