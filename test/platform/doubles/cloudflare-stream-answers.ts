import type { ResponseInfo } from 'cloudflare/resources/shared'
import type { Video } from 'cloudflare/resources/stream/stream'
import type { ProcessingStatus } from '../../../src/platform/platform.ts'

export type State = NonNullable<NonNullable<Video['status']>['state']>

/** Another word of the double's: the state is ready, but no quality can be played yet. */
export const notPlayable = 'ready, not playable'
export const statusWords = {
  // Of an upload that tus has taken in full: the state lags behind.
  pendingupload: 'processing',
  downloading: 'processing',
  queued: 'processing',
  inprogress: 'processing',
  'live-inprogress': 'processing',
  [notPlayable]: 'processing',
  ready: 'ready',
  error: 'failed',
} satisfies Record<State | typeof notPlayable, ProcessingStatus['state']>

/** What stands in a tus header `Upload-Metadata`. */
export function metadataOf(header: string): Record<string, string> {
  const pairs = header.split(',').map((pair) => pair.split(' '))
  return Object.fromEntries(pairs.map(([key, value = '']) => [key, Buffer.from(value, 'base64').toString()]))
}

/** The envelope of the API's answers. */
export const wrap = (result: object) => ({ result, success: true, errors: [], messages: [] })
export const refused = (code: number) => ({
  result: null,
  success: false,
  errors: [{ code, message: 'refused' }] satisfies ResponseInfo[],
  messages: [],
})
