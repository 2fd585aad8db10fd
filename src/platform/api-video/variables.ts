import { type Static, Type } from '@sinclair/typebox'

/** The smallest part and the largest single request that api.video accepts, in bytes (guide "Progressive upload"). */
const smallestPart = 5 * 2 ** 20
const largestSingle = 200 * 2 ** 20

export const variables = Type.Object({
  API_VIDEO_BASE_URL: Type.String({
    format: 'url',
    default: 'https://ws.api.video',
    description: 'base URL of the API; `https://sandbox.api.video` is the vendor’s own sandbox',
  }),
  API_VIDEO_API_KEY: Type.String({ minLength: 1, description: 'API key of the workspace' }),
  API_VIDEO_WEBHOOK_SECRET: Type.Optional(
    Type.String({
      description:
        '`signatureSecret` of a webhook to `/v1/platforms/api-video/webhook`; several, comma-separated. Without it the gateway accepts no webhooks',
    }),
  ),
  API_VIDEO_PART_SIZE: Type.Integer({
    default: 16 * 2 ** 20,
    minimum: 1,
    description: 'size in bytes of a part of an upload in parts; api.video accepts at least 5 MiB',
  }),
  API_VIDEO_SINGLE_MAX: Type.Integer({
    default: 200 * 2 ** 20,
    minimum: 0,
    description: 'size in bytes up to which a file is sent in one request; api.video accepts at most 200 MiB',
  }),
})

export type Variables = Static<typeof variables>

/**
 * Returns the limits of an upload in bytes. At the vendor, its own limits apply; a test double may have smaller ones.
 * @throws Error that names the variable, if the vendor would reject every upload
 */
export function limitsOf({ API_VIDEO_BASE_URL, API_VIDEO_PART_SIZE, API_VIDEO_SINGLE_MAX }: Variables) {
  const vendor = new URL(API_VIDEO_BASE_URL).hostname.endsWith('.api.video')
  if (vendor && API_VIDEO_PART_SIZE < smallestPart)
    throw new Error(
      `API_VIDEO_PART_SIZE: must be at least ${smallestPart} bytes, the smallest part that api.video accepts`,
    )
  if (vendor && API_VIDEO_SINGLE_MAX > largestSingle)
    throw new Error(
      `API_VIDEO_SINGLE_MAX: must be at most ${largestSingle} bytes, the most that api.video accepts in one request`,
    )
  return { single: API_VIDEO_SINGLE_MAX, part: API_VIDEO_PART_SIZE }
}
