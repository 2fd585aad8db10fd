import { type Static, Type } from '@sinclair/typebox'

const vendorUrl = 'https://api.cloudflare.com/client/v4'
/** In bytes (https://developers.cloudflare.com/stream/uploading-videos/resumable-uploads/#requirements). */
const chunkRule = { min: 5 * 2 ** 20, max: 200 * 2 ** 20, unit: 256 * 2 ** 10 }

export const variables = Type.Object({
  CLOUDFLARE_STREAM_BASE_URL: Type.String({
    format: 'url',
    default: vendorUrl,
    description: 'base URL of the API',
  }),
  CLOUDFLARE_STREAM_ACCOUNT_ID: Type.String({ minLength: 1, description: 'account that publishes' }),
  CLOUDFLARE_STREAM_API_TOKEN: Type.String({
    minLength: 1,
    description: 'API token with the permission “Stream Write”',
  }),
  CLOUDFLARE_STREAM_WEBHOOK_SECRET: Type.Optional(
    Type.String({
      description:
        'signing secret of the webhook to `/v1/platforms/cloudflare-stream/webhook`; several, comma-separated. Without it the gateway accepts no webhooks',
    }),
  ),
  CLOUDFLARE_STREAM_CHUNK_SIZE: Type.Integer({
    default: 16 * 2 ** 20,
    minimum: 1,
    description:
      'chunk size in bytes; each upload holds one chunk in memory: ' +
      'a multiple of 256 KiB between 5 and 200 MiB',
  }),
  CLOUDFLARE_STREAM_MAX_DURATION: Type.Integer({
    default: 21_600,
    minimum: 1,
    maximum: 36_000,
    description:
      'maximum duration of a video in seconds; each upload reserves as much of the account’s storage until it ends',
  }),
})

export type Variables = Static<typeof variables>

/** @throws Error that names the variable, if the vendor would reject every upload */
export function checkedChunkSize(variables: Variables): number {
  const { CLOUDFLARE_STREAM_BASE_URL: baseUrl, CLOUDFLARE_STREAM_CHUNK_SIZE: size } = variables
  const { min, max, unit } = chunkRule
  const fits = size >= min && size <= max && size % unit === 0
  if (new URL(baseUrl).host === new URL(vendorUrl).host && !fits)
    throw new Error(`CLOUDFLARE_STREAM_CHUNK_SIZE: expected a multiple of ${unit} from ${min} to ${max}`)
  return size
}
