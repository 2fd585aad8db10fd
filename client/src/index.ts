export type { Content, Progress } from './content.ts'
export type { EventsOptions, StreamedEvent } from './events.ts'
export {
  type CallOptions,
  type UploadOptions,
  VideoGateway,
  type VideoGatewayOptions,
} from './gateway.ts'
export type {
  CreateVideoData,
  CreateWebhookData,
  Delivery,
  Event as VideoEvent,
  GetInfoResponse as VideoInfo,
  GetStatusResponse as VideoStatus,
  GetThumbnailResponse as Thumbnail,
  ListVideosResponse as VideoPage,
  Problem,
  UpdateWebhookData,
  Video,
  Webhook,
  WebhookWithSecret,
} from './generated/types.gen.ts'
export type { TokenSource } from './http.ts'
export { GatewayProblem } from './problem.ts'
export { type ClientCredentials, clientCredentials } from './token.ts'
export { VideoFailedError, type WaitOptions } from './wait.ts'
export {
  type EndpointEvent,
  verifyWebhook,
  type WebhookEvent,
  type WebhookHeaders,
  WebhookVerificationError,
} from './webhook.ts'
export type { WebhookEndpoints } from './webhooks.ts'
