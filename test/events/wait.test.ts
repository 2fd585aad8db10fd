import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { Hear, Tail } from '../../src/events/tail.ts'
import { waitForStage } from '../../src/events/wait.ts'
import { eventOf, type VideoEvent } from '../../src/publication/events.ts'
import type { Video } from '../../src/publication/video.ts'
import { aVideo } from '../support/video.ts'

/** A tail whose events the test sends. */
function tailOf() {
  const listeners = new Set<Hear>()
  const tail: Tail = {
    async listen(hear) {
      listeners.add(hear)
      return () => void listeners.delete(hear)
    },
    since: () => undefined,
    wake() {},
    async stop() {},
  }
  let position = 0
  const change = (before: Video, changes: Partial<Video>) => {
    const after = { ...before, ...changes, version: before.version + 1 }
    const event = { id: 'e', position: ++position, createdAt: 0, ...eventOf(before, after) } as VideoEvent
    for (const hear of listeners) hear([event])
    return after
  }
  return { tail, change, listening: () => listeners.size }
}

const { signal } = new AbortController()

t.test('a change during the read of the row ends the wait', async (t) => {
  const { tail, change, listening } = tailOf()
  const before = aVideo({ stage: 'processing' })
  const look = async () => {
    change(before, { stage: 'ready' })
    return before
  }
  const ended = waitForStage(tail, look, 60_000, signal).then(() => 'ended')
  t.equal(await Promise.race([ended, sleep(5_000, 'still waiting', { ref: false })]), 'ended')
  t.equal(listening(), 0)
})

t.test(
  'a change that was read already, of another video, or within the stage does not end the wait',
  async (t) => {
    const { tail, change, listening } = tailOf()
    const before = aVideo({ stage: 'uploading' })
    let current = before
    const look = async () => {
      current = change(before, { stage: 'processing' })
      change(aVideo({ stage: 'processing' }), { stage: 'ready' })
      return current
    }
    let over = false
    const waiting = waitForStage(tail, look, 60_000, signal).then(() => {
      over = true
    })
    await sleep(50)
    current = change(current, { progress: 50 })
    await sleep(50)
    t.notOk(over)
    change(current, { stage: 'failed' })
    await waiting
    t.equal(listening(), 0)
  },
)
