import { createHmac } from 'node:crypto'
import { sign as signAsSandbox } from '../../sandbox/webhooks.ts'

/** How a platform writes and signs a webhook, by its documentation. */
export interface Webhooks {
  variable: string
  header: string
  /** @param ids the gateway's of the video, and the platform's own */
  event(ids: { id: string; videoId: string }, at?: number): Buffer
  /** The value of the header. @param at in ms since the epoch */
  sign(secret: string, body: Uint8Array, at?: number): string
}

const hmac = (secret: string, ...parts: (string | Uint8Array)[]) =>
  parts
    .reduce<ReturnType<typeof createHmac>>((hash, part) => hash.update(part), createHmac('sha256', secret))
    .digest('hex')
const json = (value: object) => Buffer.from(JSON.stringify(value))
const seconds = (at: number) => String(Math.floor(at / 1000))

export const webhooks: Record<string, Webhooks> = {
  // https://www.mux.com/docs/core/verify-webhook-signatures
  mux: {
    variable: 'MUX_WEBHOOK_SECRET',
    header: 'mux-signature',
    event: ({ id, videoId }) =>
      json({
        type: 'video.asset.ready',
        id: '11111111-2222-3333-4444-555555555555',
        object: { type: 'asset', id: videoId },
        data: { id: videoId, status: 'ready', passthrough: id, upload_id: 'up1' },
        attempts: [],
      }),
    sign: (secret, body, at = Date.now()) => `t=${seconds(at)},v1=${hmac(secret, `${seconds(at)}.`, body)}`,
  },
  // https://developers.cloudflare.com/stream/manage-video-library/using-webhooks/
  'cloudflare-stream': {
    variable: 'CLOUDFLARE_STREAM_WEBHOOK_SECRET',
    header: 'webhook-signature',
    event: ({ id, videoId }) =>
      json({
        uid: videoId,
        creator: id,
        readyToStream: true,
        status: { state: 'ready', pctComplete: '39.000000' },
      }),
    sign: (secret, body, at = Date.now()) =>
      `time=${seconds(at)},sig1=${hmac(secret, `${seconds(at)}.`, body)}`,
  },
  // https://docs.api.video/reference/create-and-manage-webhooks
  'api-video': {
    variable: 'API_VIDEO_WEBHOOK_SECRET',
    header: 'x-api-video-signature',
    event: ({ videoId }, at = Date.now()) =>
      json({
        type: 'video.encoding.quality.completed',
        emittedAt: new Date(at).toISOString().replace('Z', '+00:00'),
        videoId,
        liveStreamId: null,
        encoding: 'hls',
        quality: '720p',
      }),
    sign: (secret, body) => hmac(secret, body),
  },
  sandbox: {
    variable: 'SANDBOX_WEBHOOK_SECRET',
    header: 'sandbox-signature',
    event: ({ id, videoId }) => json({ event: 'clip.live', clip_id: videoId, external_ref: id }),
    sign(secret, body, at = Date.now()) {
      const time = new Date(at).toISOString()
      return `${time};${signAsSandbox(secret, time, body)}`
    },
  },
}

/** The request as `fetch` takes it. */
export function webhookRequest(
  vendor: Webhooks,
  secret: string,
  ids: { id: string; videoId: string },
  at = Date.now(),
) {
  const body = vendor.event(ids, at)
  return {
    method: 'POST',
    headers: { 'content-type': 'application/json', [vendor.header]: vendor.sign(secret, body, at) } as Record<
      string,
      string
    >,
    body: body as Uint8Array<ArrayBuffer>,
  }
}
