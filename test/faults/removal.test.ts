import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { Operation } from '../../sandbox/knobs.ts'
import { clipsOn, fakeMp4, startGateway, type TestGateway } from '../support/gateway.ts'

interface Line {
  level: number
  video?: string
  msg: string
}

/** A gateway that asks for one video at a time, and what it logs. */
async function setUp(t: Test) {
  const lines: Line[] = []
  const stream = { write: (line: string) => void lines.push(JSON.parse(line)) }
  const gateway = await startGateway(t, {
    env: { POLL_CONCURRENCY: '1' },
    tools: { retries: 0, circuit: { failures: 1_000, halfOpenAfter: 100 } },
    logger: { level: 'info', stream },
  })
  Object.assign(gateway.sandbox.knobs, { discard: true })
  /** What happened to a video, by the names of the lifecycle. */
  const story = (id: string) =>
    lines.filter(({ video, level }) => video === id && level === 30).map(({ msg }) => msg)
  return { gateway, lines, story }
}

/** Holds the platform's answers back. Resolves when its work is done and so many of them wait. */
async function hold({ sandbox }: TestGateway, operation: Operation, count = 1): Promise<void> {
  sandbox.knobs.hold = [operation]
  while (sandbox.stats().held_answers < count) await sleep(5)
}

for (const [operation, answer] of [
  ['get', 'that it is ready'],
  ['media', 'launch URL and size'],
  ['poster', 'the thumbnail'],
] as const) {
  t.test(`a deletion wins over a platform that is about to return ${answer}`, async (t) => {
    const { gateway, lines, story } = await setUp(t)
    const { knobs } = gateway.sandbox
    // Until the answer is held back, the video must not become ready.
    knobs.faults = [{ operation: 'poster', times: 1_000, status: 503 }]
    const { id } = await gateway.create()
    await gateway.put(id, fakeMp4(1000))
    while (knobs.faults[0]?.times === 1_000) await sleep(5)
    knobs.faults = []
    await hold(gateway, operation)

    t.equal((await gateway.call('DELETE', `/v1/videos/${id}`)).status, 204, 'it does not wait for the answer')
    t.equal(clipsOn(gateway), 0)
    const tombstone = await gateway.app.gateway.store.find(id)
    t.match(tombstone, { stage: 'deleted', info: null, thumbnail: null, nextCheckAt: null })
    knobs.hold = []
    // There is one place for checks: this one becomes ready only after the other was let go.
    const next = await gateway.create()
    await gateway.put(next.id, fakeMp4(1000))
    await gateway.until(next.id, ({ status }) => status === 'ready')

    t.strictSame(await gateway.app.gateway.store.find(id), tombstone, 'the late answer changed nothing')
    t.match(await gateway.call('GET', `/v1/videos/${id}`), { status: 410, body: { code: 'video-deleted' } })
    const { items } = (await gateway.call('GET', '/v1/videos')).body
    t.strictSame(
      items.map((item: { id: string }) => item.id),
      [next.id],
    )
    t.equal(clipsOn(gateway), 1, 'the platform holds the other one')
    const life = [
      'provisioned',
      'upload-started',
      'upload-completed',
      'deletion-requested',
      'deletion-completed',
    ]
    t.strictSame(story(id), life, 'never ready')
    t.strictSame(
      lines.filter(({ level }) => level >= 50),
      [],
      'no error',
    )
  })
}

t.test('concurrent deletions of a video all return 204', async (t) => {
  const { gateway, lines, story } = await setUp(t)
  for (const uploaded of [false, true]) {
    const { id } = await gateway.create()
    if (uploaded) await gateway.put(id, fakeMp4(1000))
    if (uploaded) await gateway.until(id, ({ status }) => status === 'ready')
    const remove = () => gateway.call('DELETE', `/v1/videos/${id}`)
    const first = remove()
    await hold(gateway, 'delete')
    const others = [remove(), remove()]
    await hold(gateway, 'delete', 3)
    gateway.sandbox.knobs.hold = []
    const answers = await Promise.all([first, ...others])
    t.strictSame(
      answers.map(({ status }) => status),
      [204, 204, 204],
    )
    t.match(await gateway.app.gateway.store.find(id), { stage: 'deleted', nextCheckAt: null })
    t.strictSame(story(id).slice(-2), ['deletion-requested', 'deletion-completed'], 'once each')
    t.equal(clipsOn(gateway), 0)
  }
  t.strictSame(
    lines.filter(({ level }) => level >= 40),
    [],
    'nothing to complain about',
  )
})

t.test('a video is deleted although one of two deletions gets the platform’s failure', async (t) => {
  const { gateway, lines } = await setUp(t)
  const { id } = await gateway.create()
  gateway.sandbox.knobs.faults = [{ operation: 'delete', times: 1, status: 500 }]
  const remove = () => gateway.call('DELETE', `/v1/videos/${id}`)
  const statuses = (await Promise.all([remove(), remove()])).map(({ status }) => status)
  t.strictSame(statuses.sort(), [204, 503])
  t.match(await gateway.app.gateway.store.find(id), { stage: 'deleted', nextCheckAt: null })
  t.equal(clipsOn(gateway), 0)
  t.equal((await remove()).status, 204)
  t.strictSame(
    lines.filter(({ level }) => level >= 50),
    [],
  )
})
