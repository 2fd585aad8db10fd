import { setTimeout as sleep } from 'node:timers/promises'
import { Agent, request } from 'undici'

/**
 * The HTTP call of a poll and nothing else: asks for clips at `RATE` a second, a tick at a time, reads and parses
 * the answers. What it costs is taken off the poller's cost.
 */
const target = process.env.TARGET as string
const perTick = Number(process.env.RATE) / 100
const dispatcher = new Agent()

process.send?.({ url: target })
process.once('disconnect', () => process.exit())

const started = performance.now()
for (let tick = 1, sent = 0; ; tick++) {
  for (; sent < tick * perTick; sent++) void ask(sent)
  await sleep(Math.max(0, started + tick * 10 - performance.now()))
}

async function ask(index: number): Promise<void> {
  const { body } = await request(`${target}/clips/c${index}`, {
    dispatcher,
    headers: { authorization: 'Bearer bench' },
  })
  await body.json()
}
