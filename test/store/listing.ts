import { isDeepStrictEqual } from 'node:util'
import type { Test } from 'tap'
import type { VideoQuery, VideoStore } from '../../src/publication/store.ts'
import { type Stage, statusOf, type Video, visibleStages } from '../../src/publication/video.ts'
import { aVideo } from '../support/video.ts'

export const stages: Stage[] = [
  'provisioning',
  'awaiting-upload',
  'uploading',
  'processing',
  'ready',
  'failed',
  'deleting',
  'deleted',
]
export const visible: Stage[] = Object.values(visibleStages).flat()
const platforms = ['sandbox', 'mux', 'peertube']
const statuses = [undefined, 'pending', 'ready', 'error'] as const

/** Adds one video of every stage on every platform, half of them with the same reference; oldest first. */
export async function seed(store: VideoStore): Promise<Video[]> {
  const videos = stages
    .flatMap((stage) => platforms.map((platform) => ({ stage, platform })))
    .map((row, index) => aVideo({ ...row, reference: index % 2 ? 'shared' : null }))
  for (const video of videos) await store.insert(video)
  return videos
}

/** Every combination of filters, some of which match nothing. */
export function* queries(middle: string, oldest: string): Generator<VideoQuery> {
  for (const status of statuses)
    for (const platform of [undefined, ...platforms, 'gone'])
      for (const reference of [undefined, 'shared', 'nowhere'])
        for (const before of [undefined, middle, oldest])
          for (const limit of [1, 4, 100]) yield { status, platform, reference, before, limit }
}

/** Compares every list of a store with what a scan of its rows finds. */
export async function expectLists(t: Test, store: VideoStore): Promise<void> {
  const videos = await seed(store)
  const [oldest, middle] = [videos[0]?.id ?? '', videos[12]?.id ?? '']
  let wrong = 0
  for (const query of queries(middle, oldest)) {
    const expected = videos
      .filter((video) => matches(video, query))
      .toReversed()
      .slice(0, query.limit)
    const listed = await store.list(query)
    if (isDeepStrictEqual(listed, expected)) continue
    wrong++
    t.strictSame(listed, expected, JSON.stringify(query))
  }
  t.equal(wrong, 0)
}

function matches({ id, stage, platform, reference }: Video, query: VideoQuery): boolean {
  return (
    visible.includes(stage) &&
    (query.status ?? statusOf(stage)) === statusOf(stage) &&
    (query.platform ?? platform) === platform &&
    (query.reference ?? reference) === reference &&
    (query.before === undefined || id < query.before)
  )
}
