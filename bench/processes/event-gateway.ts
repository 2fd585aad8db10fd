import { setImmediate as immediate, setTimeout as sleep } from 'node:timers/promises'
import { buildApp } from '../../src/app.ts'
import { loadConfig } from '../../src/config/config.ts'
import type { Video } from '../../src/publication/video.ts'
import { announce } from './listening.ts'

/** Asks for events: so many per second, for a while. */
export interface EventLoad {
  rate: number
  seconds: number
}

/**
 * The gateway, which changes videos when it is told to: each change is an event. With room for as many streams as the
 * bench opens. What the changes cost is measured without listeners.
 */
const places = 20_000
const app = await buildApp(loadConfig(process.env), {
  streamLimits: { total: places, perClient: places },
  connectionLimits: { maxConnections: places },
})
await app.server.listen({ port: 0, host: '127.0.0.1' })
const { port } = app.server.server.address() as { port: number }
const { store, observer } = app.gateway
const items = (await store.list({ limit: 200 })).map(({ id }) => id)
announce(port)

/** Changes in one turn of the event loop. */
const perTurn = 10
/** Shared by all loads, because a change to the previous value is not an event. */
let changes = 0

process.on('message', async ({ rate, seconds }: EventLoad) => {
  const started = performance.now()
  let written = 0
  while (performance.now() - started < seconds * 1_000) {
    const due = ((performance.now() - started) / 1_000) * rate
    if (written >= due) await sleep(1)
    // As the requests of clients do: several in a turn of the event loop, and then the others.
    const count = Math.max(0, Math.min(Math.ceil(due - written), perTurn))
    await Promise.all(
      Array.from({ length: count }, (_, index) => change(items[(written + index) % items.length] as string)),
    )
    written += count
    await immediate()
  }
  process.send?.({ written })
})

async function change(id: string): Promise<void> {
  const title = changes++
  const video = (await store.update(id, (current, updatedAt) => ({
    ...current,
    title: `Evening news ${title}`,
    updatedAt,
  }))) as Video
  observer.stageChanged({ video, from: video.stage, seconds: 0 })
}
