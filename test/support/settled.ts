import { setTimeout as sleep } from 'node:timers/promises'
import type { Sandbox } from '../../sandbox/server.ts'
import type { Video } from '../../src/publication/video.ts'
import type { TestDatabase } from './database.ts'

/** The rows of a database, once no row is in the middle of something and nothing is to be looked for. */
export async function settled(database: TestDatabase): Promise<Video[]> {
  for (const deadline = Date.now() + 60_000; ; await sleep(20)) {
    const rows = await database.rows()
    const moving = rows.filter(
      ({ stage, undoAt }) =>
        ['provisioning', 'uploading', 'processing', 'deleting'].includes(stage) ||
        (undoAt !== null && undoAt < Date.now() && stage !== 'deleted'),
    )
    const expected = await database.leftovers()
    if (moving.length === 0 && expected.length === 0) {
      await expectEvents(database, rows)
      return rows
    }
    if (Date.now() > deadline) throw new Error(`not settled: ${JSON.stringify({ moving, expected })}`)
  }
}

/** Whatever was killed when: every change of stage has its event, and every event its change. */
async function expectEvents(database: TestDatabase, rows: Video[]): Promise<void> {
  for (const { id, stage, version } of rows) {
    const events = await database.events(id)
    const [first, last] = [events[0], events.at(-1)]
    const agrees =
      stage === 'deleted'
        ? !last || last.type === 'video.deleted'
        : last?.video.stage === stage && last.video.version <= version
    if (!agrees || (first && first.type !== 'video.created'))
      throw new Error(`${id} is ${stage}, its events are ${events.map((event) => event.type)}`)
  }
}

export interface Clip {
  clip_id: string
  received_bytes: number
}

/** What is on the platform. */
export async function clipsOf({ url }: Sandbox): Promise<Clip[]> {
  const token = await fetch(`${url}/oauth/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from('sandbox:sandbox-secret').toString('base64')}` },
    body: new URLSearchParams({ grant_type: 'client_credentials' }),
  })
  const { access_token } = (await token.json()) as { access_token: string }
  const clips = await fetch(`${url}/clips`, { headers: { authorization: `Bearer ${access_token}` } })
  return ((await clips.json()) as { clips: Clip[] }).clips
}

/** What rows and platform say of each other. All three are to be empty. */
export function mismatches(rows: Video[], clips: Clip[]) {
  const named = rows.filter(({ stage }) => stage !== 'deleted').map(({ slot }) => slot.videoId)
  const ids = clips.map(({ clip_id }) => clip_id)
  return {
    'on the platform, and no row names it': ids.filter((id) => !named.includes(id)),
    'named by a row, and not there': named.filter((id) => id === null || !ids.includes(id)),
    'named by two rows': named.filter((id, index) => named.indexOf(id) !== index),
  }
}
export const noMismatches = mismatches([], [])
