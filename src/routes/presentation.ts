import type { ShownVideo, VideoEvent } from '../publication/events.ts'
import type { Gateway } from '../publication/gateway.ts'
import { iso } from '../publication/iso.ts'
import { shownMetadata } from '../publication/metadata.ts'
import { statusOf, type Video } from '../publication/video.ts'

/** Presents videos in API responses. */
export interface Presenter {
  /** Path of the video, below that of the public URL (RFC 9110 §10.2.2 allows a path or a URL). */
  path(id: string): string
  video(video: ShownVideo): object
  status(video: Video): object
  /** Returns an event as in the feed, the stream and webhooks. */
  event(event: VideoEvent): { id: string; type: VideoEvent['type']; timestamp: string; data: object }
}

/** @param publicUrl base of the URLs handed out, without a slash at its end */
export function createPresenter(gateway: Gateway, publicUrl: () => string): Presenter {
  const url = (id: string) => `${publicUrl()}/v1/videos/${id}`

  /**
   * The row knows what the last renewal of the lease wrote, and so much is known of an upload in another process. The
   * upload itself, if it runs here, knows better.
   */
  function receivedBy({ id, stage, bytesReceived }: ShownVideo): number {
    const live = stage === 'uploading' ? gateway.uploads.get(id)?.content.received() : undefined
    return live ?? bytesReceived
  }

  function common(video: ShownVideo, bytesReceived = receivedBy(video)) {
    return {
      id: video.id,
      status: statusOf(video.stage),
      stage: video.stage,
      progress: video.progress ?? null,
      error: video.error,
      upload: {
        url: `${url(video.id)}/content`,
        bytesReceived,
        bytesTotal: video.bytesTotal,
      },
    }
  }

  const shown = (video: ShownVideo, bytesReceived?: number) => ({
    ...common(video, bytesReceived),
    title: video.title,
    description: video.description,
    reference: video.reference,
    platform: { name: video.platform, videoId: video.slot.videoId },
    ...shownMetadata(video),
    version: video.version,
    createdAt: iso(video.createdAt),
    updatedAt: iso(video.updatedAt),
  })

  return {
    path: (id) => new URL(url(id)).pathname,
    video: (video) => shown(video),
    status: (video) => ({
      ...common(video),
      checkedAt: iso(video.checkedAt),
      // During an upload this is the end of its lease, which is not a time that a client can wait for.
      nextCheckAt: video.stage === 'processing' ? iso(video.nextCheckAt) : null,
    }),
    event: ({ id, type, createdAt, video }) => ({
      id,
      type,
      timestamp: iso(createdAt),
      // As it was: an event is the same whenever it is read.
      data: shown(video, video.bytesReceived),
    }),
  }
}
