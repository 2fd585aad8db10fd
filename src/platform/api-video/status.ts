import { type Static, Type } from '@sinclair/typebox'
import { failedBecause, nullish, Word } from '../http/border.ts'
import type { ProcessingStatus } from '../platform.ts'

const Quality = Type.Object({ status: Word })
/** Judged once the video is ready. */
const Metadata = Type.Object({
  width: nullish(Type.Number()),
  height: nullish(Type.Number()),
  duration: nullish(Type.Number()),
})
/** A video's status, as `GET /videos/{videoId}/status` returns it. */
export const State = Type.Object({
  ingest: Type.Union([Type.Object({ status: nullish(Word) }), Type.Null()]),
  encoding: nullish(
    Type.Object({
      playable: nullish(Type.Boolean()),
      qualities: nullish(Type.Array(Quality)),
      metadata: nullish(Metadata),
    }),
  ),
})

/**
 * Returns the state of a video. `playable` counts before the status values, because some qualities may still be encoded
 * then. The values are those of the API document; the two of a merge are those of the guide
 * (https://docs.api.video/vod/show-video-upload-status), and `missing` is from older versions of the document. `error`
 * is not documented.
 */
export function statusFrom(
  { ingest, encoding }: Static<typeof State>,
  unknownState: (state: string) => ProcessingStatus,
): ProcessingStatus {
  const qualities = encoding?.qualities ?? []
  if (encoding?.playable) return { state: 'ready' }
  if (qualities.length > 0 && qualities.every(({ status }) => status === 'failed'))
    return failedBecause('api.video could not encode the video in any quality')
  const state = ingest?.status ?? 'missing'
  switch (state) {
    case 'missing':
    case 'uploading':
      return { state: 'awaiting-upload' }
    case 'error':
      return failedBecause('api.video could not ingest the file')
    case 'last_chunck_uploaded':
    case 'merging':
    case 'uploaded':
    case 'ingesting':
    case 'ingested':
      return { state: 'processing' }
    default:
      return unknownState(state)
  }
}
