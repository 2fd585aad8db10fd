import t from 'tap'
import { eventOf } from '../../src/publication/events.ts'
import type { Video } from '../../src/publication/video.ts'
import { aVideo } from '../support/video.ts'

const info = { launchUrl: 'https://x/y', mimeType: 'video/mp4', width: 1, height: 1, duration: 1 } as const
const thumbnail = { url: 'https://x/z', mimeType: 'image/png', width: 1, height: 1 } as const
const ready = { stage: 'ready', info, thumbnail } as const

/** A row before, what changes, and the event that it means. */
const cases: [string, Partial<Video>, Partial<Video>, string | undefined][] = [
  ['a slot', { stage: 'provisioning' }, { stage: 'awaiting-upload' }, 'video.created'],
  ['a refused slot', { stage: 'provisioning' }, { stage: 'deleted' }, undefined],
  ['a deletion during provisioning', { stage: 'provisioning' }, { stage: 'deleting' }, undefined],
  ['a change before it is visible', { stage: 'provisioning' }, { title: 'other' }, undefined],
  ['an upload that begins', {}, { stage: 'uploading' }, 'video.updated'],
  ['bytes', { stage: 'uploading' }, { bytesReceived: 7, updatedAt: 9 }, undefined],
  ['a renewal', { stage: 'uploading' }, { nextCheckAt: 7 }, undefined],
  ['an upload that failed', { stage: 'uploading' }, { stage: 'awaiting-upload' }, 'video.upload-failed'],
  ['an upload that arrived', { stage: 'uploading' }, { stage: 'processing' }, 'video.uploaded'],
  ['a check', { stage: 'processing' }, { checkedAt: 1, checks: 2, nextCheckAt: 3 }, undefined],
  ['a claim', { stage: 'processing' }, { epoch: 7, claimedUntil: 7 }, undefined],
  ['progress', { stage: 'processing' }, { progress: 0.5 }, 'video.updated'],
  ['the same progress', { stage: 'processing', progress: 0.5 }, { progress: 0.5, checks: 2 }, undefined],
  ['progress in a row without the field', { stage: 'processing' }, { progress: null }, undefined],
  ['the end of processing', { stage: 'processing' }, ready, 'video.ready'],
  [
    'a failure',
    { stage: 'processing' },
    { stage: 'failed', error: { code: 'c', message: 'm' } },
    'video.failed',
  ],
  ['a video that vanished', ready, { stage: 'failed', info: null, thumbnail: null }, 'video.failed'],
  ['the same metadata again', ready, { info: { ...info }, fetchedAt: 5, checkedAt: 5 }, undefined],
  ['another launch URL', ready, { info: { ...info, launchUrl: 'https://x/other' } }, 'video.updated'],
  ['another thumbnail', ready, { thumbnail: { ...thumbnail, width: 2 } }, 'video.updated'],
  ['only another end of validity', ready, { info: { ...info, validUntil: 7 } }, undefined],
  ['an id on the platform', {}, { slot: { videoId: 'clip-2', handle: null } }, 'video.updated'],
  ['a handle', {}, { slot: { videoId: 'clip-1', handle: 'https://secret' } }, undefined],
  ['a deletion', ready, { stage: 'deleting' }, 'video.deleted'],
  ['its end', { stage: 'deleting' }, { stage: 'deleted' }, undefined],
]

t.test('each change of a row causes at most one event', async (t) => {
  for (const [name, before, change, expected] of cases) {
    const row = aVideo(before)
    if (name.includes('without the field')) delete row.progress
    const event = eventOf(row, { ...row, ...change, version: row.version + 1 })
    t.equal(event?.type, expected, name)
    if (event) t.equal(event.video.version, row.version + 1, name)
    t.notMatch(JSON.stringify(event ?? ''), /secret|epoch|evidence|account/, name)
  }
})

t.test('the event of a deletion contains the video', async (t) => {
  const row = aVideo(ready)
  const event = eventOf(row, { ...row, stage: 'deleting', updatedAt: 77, version: 5 })
  t.match(event?.video, { stage: 'ready', info, updatedAt: 77, version: 5 })
})
