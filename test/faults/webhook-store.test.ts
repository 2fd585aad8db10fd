import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { VideoStore } from '../../src/publication/store.ts'
import { openStore } from '../../src/store/open.ts'
import { temporaryDirectory } from '../support/gateway.ts'
import { startPostgres } from '../support/postgres.ts'
import { aVideo } from '../support/video.ts'
import { addEndpoint } from '../support/webhooks.ts'

/**
 * Processes that write events, fan them out and deliver them are killed at random, and so is the database: every event
 * has its deliveries, each once, and each is delivered at least once.
 */

/** `npm run soak` asks for more. */
const kills = Number(process.env.CRASH_KILLS ?? 4)
const script = new URL('../support/webhook-worker.ts', import.meta.url)
t.jobs = 2

interface Sent {
  endpointId: string
  eventId: string
  at: number
}

/** @param restart kills the database and starts it again */
async function survive(t: Test, url: string, restart?: () => Promise<void>): Promise<void> {
  const store = await openStore(url, 3)
  const video = aVideo()
  await store.insert(video)
  const one = await addEndpoint(store)
  const two = await addEndpoint(store, { events: ['video.updated', 'video.deleted'] })
  const none = await addEndpoint(store, { events: ['video.deleted'] })
  const sent: Sent[] = []
  const workers: ChildProcess[] = []
  let ended = false
  async function start(index: number): Promise<void> {
    const worker = fork(script, [url, video.id])
    workers[index] = worker
    worker.on('message', (message: Sent) => {
      if ('eventId' in message) sent.push(message)
    })
    await once(worker, 'message')
  }
  t.teardown(async () => {
    ended = true
    for (const worker of workers) worker.kill('SIGKILL')
    await store.close()
  })
  await Promise.all([0, 1].map(start))
  let resentAt = 0
  for (let kill = 0; kill < kills && !ended; kill++) {
    await sleep(Math.random() * 200)
    const worker = workers[kill % 2] as ChildProcess
    worker.kill('SIGKILL')
    await once(worker, 'exit')
    if (kill === kills >> 1) {
      await insist(() => store.resendAfter(one.id, 0))
      resentAt = store.now()
      await restart?.()
    }
    await start(kill % 2)
  }
  await Promise.all(workers.map(stopWriting))
  for (const deadline = Date.now() + 60_000; Date.now() < deadline && !(await isQuiet(store)); )
    await sleep(50)
  t.ok(await isQuiet(store), 'it comes to rest')
  const { last } = await insist(() => store.eventRange())
  const events = await store.events({ after: 0, upTo: last, limit: 100_000 })
  const ids = events.map(({ id }) => id).toSorted()
  t.comment(`${ids.length} events, ${sent.length} deliveries`)
  t.ok(ids.length > kills)
  for (const { id } of [one, two]) {
    const rows = await store.deliveries({ endpointId: id, limit: 100_000 })
    t.strictSame(rows.map(({ eventId }) => eventId).toSorted(), ids, 'each event once')
    t.ok(rows.every(({ status }) => status === 'delivered'))
    const received = new Set(sent.filter(({ endpointId }) => endpointId === id).map(({ eventId }) => eventId))
    t.strictSame(
      ids.filter((eventId) => !received.has(eventId)),
      [],
      'nothing is lost',
    )
  }
  t.strictSame(await store.deliveries({ endpointId: none.id, limit: 1 }), [])
  const again = new Set(
    sent.filter(({ endpointId, at }) => endpointId === one.id && at > resentAt).map(({ eventId }) => eventId),
  )
  const missing = events.filter(({ id, createdAt }) => createdAt < resentAt - 1_000 && !again.has(id))
  t.strictSame(missing, [], 'a resend is complete')
}

async function stopWriting(worker: ChildProcess): Promise<void> {
  const stopped = new Promise<void>((resolve) => {
    worker.on('message', (message: object) => 'stopped' in message && resolve())
  })
  worker.send('stop')
  await stopped
}

async function isQuiet(store: VideoStore): Promise<boolean> {
  return (
    (await insist(() => store.oldestPendingDelivery())) === undefined &&
    !(await insist(() => store.fanOut(1)))
  )
}

/** Repeats a call while the database belongs to another process, or restarts. */
async function insist<T>(call: () => Promise<T>): Promise<T> {
  for (const deadline = Date.now() + 30_000; ; await sleep(5))
    try {
      return await call()
    } catch (error) {
      if (Date.now() > deadline) throw error
    }
}

t.test('SQLite', async (t) => survive(t, `sqlite:${join(await temporaryDirectory(t), 'gateway.db')}`))

t.test('PostgreSQL, which crashes as well', async (t) => {
  const server = await startPostgres()
  if ('unavailable' in server) return t.pass('no server', { skip: server.unavailable })
  t.teardown(() => server.close())
  await survive(t, server.newUrl(), async () => {
    await server.kill()
    await sleep(200)
    await server.start()
  })
})
