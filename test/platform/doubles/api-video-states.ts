import type { ProcessingStatus } from '../../../src/platform/platform.ts'
import type { Ingest, Quality, VideoStatus } from './api-video-shapes.ts'

interface State {
  /** Beside the words of the API document those of its guides and of older versions; `error` is written nowhere. */
  ingest: Ingest | 'missing' | 'last_chunck_uploaded' | 'merging' | 'error'
  playable?: true
  qualities?: NonNullable<Quality['status']>[]
}

/** What the status call says: under the vendor's words for `ingest`, and under names of composed states. */
const states = {
  missing: { ingest: 'missing' },
  uploading: { ingest: 'uploading' },
  last_chunck_uploaded: { ingest: 'last_chunck_uploaded' },
  merging: { ingest: 'merging' },
  uploaded: { ingest: 'uploaded' },
  ingesting: { ingest: 'ingesting' },
  ingested: { ingest: 'ingested', qualities: ['waiting', 'waiting'] },
  encoding: { ingest: 'ingested', qualities: ['encoding', 'waiting'] },
  'one failed': { ingest: 'ingested', qualities: ['failed', 'encoding'] },
  'all failed': { ingest: 'ingested', qualities: ['failed', 'failed'] },
  error: { ingest: 'error' },
  playable: { ingest: 'ingested', playable: true, qualities: ['encoded', 'encoding'] },
} satisfies Record<State['ingest'], State> & Record<string, State>

/** Another state of the double's, for which there is no meaning of its own. */
export const withoutMetadata = 'playable, without metadata'

export const statusWords = {
  missing: 'awaiting-upload',
  uploading: 'awaiting-upload',
  last_chunck_uploaded: 'processing',
  merging: 'processing',
  uploaded: 'processing',
  ingesting: 'processing',
  ingested: 'processing',
  encoding: 'processing',
  'one failed': 'processing',
  'all failed': 'failed',
  error: 'failed',
  playable: 'ready',
} satisfies Record<keyof typeof states, ProcessingStatus['state']>

/** The answer of the status call, in that state; a word that is none is what `ingest` says. */
export function statusOf(video: { word: string; parts: Map<number, Buffer>; total: number | null }) {
  const { parts, total } = video
  const word = video.word === withoutMetadata ? 'playable' : video.word
  const state = (states as Record<string, State>)[word] ?? { ingest: word as Ingest }
  const known = state.playable && video.word !== withoutMetadata
  return {
    ingest: {
      status: state.ingest as Ingest,
      filesize: null,
      receivedParts: { parts: [...parts.keys()], total },
    },
    encoding: {
      playable: state.playable ?? false,
      qualities: (state.qualities ?? []).map((status) => ({ type: 'hls', quality: '720p', status })),
      metadata: known
        ? { width: 1920, height: 1080, duration: 12 }
        : { width: null, height: null, duration: null },
    },
  } satisfies VideoStatus
}
