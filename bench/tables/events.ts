import { setTimeout as sleep } from 'node:timers/promises'
import { startSandbox } from '../../sandbox/server.ts'
import { type Engine, engines } from '../support/engines.ts'
import {
  type Arrivals,
  authorization,
  type EventResult,
  runEvents,
  startEventGateway,
} from '../support/events.ts'
import { startGateway, startServer } from '../support/processes.ts'
import { atMost, mebibytes, percentile, type Scale, type Table } from '../support/report.ts'
import { memory } from '../support/usage.ts'
import { pendingVideo } from '../support/videos.ts'

const streams = 100
const endpoints = 10
const videosPerWave = 5

/** Cost and lag of events; idle streams; hints. */
export async function eventsTable(scale: Scale): Promise<Table[]> {
  const tables: Table[] = []
  // SQLite is the worse case for one process: its writes block the event loop.
  for (const engine of scale.quick ? (await engines()).slice(0, 1) : await engines())
    tables.push(await deliveryTable(engine, scale))
  return [...tables, await idleTable(scale), await hintTable(scale)]
}

async function deliveryTable(engine: Engine, { quick }: Scale): Promise<Table> {
  const seconds = quick ? 3 : 15
  const audiences = [
    ['outbox alone', { streams: 0, endpoints: 0 }],
    [`${streams} streams`, { streams, endpoints: 0 }],
    [`${endpoints} endpoints`, { streams: 0, endpoints }],
    [`${streams} streams, ${endpoints} endpoints`, { streams, endpoints }],
  ] as const
  const run = async (rate: number, listeners: { streams: number; endpoints: number }) => {
    const databaseUrl = await engine.seed(
      Array.from({ length: 200 }, (_, index) => pendingVideo(index, { stage: 'ready', nextCheckAt: 4e12 })),
    )
    const result = await runEvents({ databaseUrl, rate, seconds, ...listeners })
    await engine.drop(databaseUrl)
    return result
  }
  const rows: Table['rows'] = []
  const results: Record<string, EventResult> = {}
  for (const rate of [100, 1_000]) {
    const alone = await run(rate, { streams: 0, endpoints: 0 })
    for (const [name, listeners] of quick ? [audiences[0], audiences[3]] : audiences) {
      const isAlone = listeners.streams + listeners.endpoints === 0
      const result = isAlone ? alone : await run(rate, listeners)
      results[`${rate} ${name}`] = result
      const inTime = ({ share }: Arrivals) => Math.min(1, share || 0)
      const arrivals =
        result.perSecond *
        (listeners.streams * inTime(result.streams) + listeners.endpoints * inTime(result.endpoints))
      rows.push([
        `${rate.toLocaleString('en')} events/s: ${name}`,
        result.perSecond,
        result.cores,
        isAlone ? '–' : ((result.cores - alone.cores) * 1_000) / arrivals,
        ...columnsOf(result.streams),
        ...columnsOf(result.endpoints),
        mebibytes(result.peakMemory),
      ])
    }
  }
  const modest = results[`100 ${streams} streams, ${endpoints} endpoints`]!
  return {
    title: `Events, one process, ${engine.name}`,
    note:
      'The process changes videos itself; each change is a durable transaction with its event. CPU per arrival is what the ' +
      'process takes beyond the changes alone. *In time* had arrived when the last change was made. Lags from the change to the arrival in the reader or receiver, which share the cores.',
    columns: [
      'variant',
      'events/s',
      'cores',
      'CPU ms/arrival',
      'streams: in time',
      'p50 ms',
      'p99 ms',
      'webhooks: in time',
      'p50 ms',
      'p99 ms',
      'peak MiB',
    ],
    rows,
    verdicts: [
      atMost(`${engine.name}, 100 events/s: to streams, p99 lag ≤ 1 s`, modest.streams.p99, 1_000, ' ms'),
      atMost(`${engine.name}, 100 events/s: by webhook, p99 lag ≤ 1 s`, modest.endpoints.p99, 1_000, ' ms'),
    ],
  }
}

const columnsOf = ({ share, p50, p99 }: Arrivals) =>
  Number.isNaN(share) ? ['–', '–', '–'] : [`${Math.round(share * 100)} %`, p50, p99]

async function idleTable({ quick }: Scale): Promise<Table> {
  const count = quick ? 2_000 : 10_000
  const [sqlite] = await engines()
  const gateway = await startEventGateway(await sqlite!.create())
  await sleep(1_000)
  const before = memory(gateway.pid)
  const readers = await startServer('event-readers', {
    TARGET: gateway.url,
    STREAMS: String(count),
    AUTHORIZATION: authorization,
  })
  try {
    await sleep(quick ? 3_000 : 20_000)
    const after = memory(gateway.pid)
    const perStream = (after - before) / count
    return {
      title: `Memory of ${count.toLocaleString('en')} idle event streams`,
      note: 'With limits for so many; by default a process has room for 1,000.',
      columns: ['streams', 'before MiB', 'with them MiB', 'KiB per stream'],
      rows: [[count.toLocaleString('en'), mebibytes(before), mebibytes(after), perStream / 1_024]],
      verdicts: [atMost('an idle stream takes ≤ 64 KiB', perStream / 1_024, 64, ' KiB')],
    }
  } finally {
    await Promise.all([gateway.stop(), readers.stop()])
  }
}

/** From the moment at which the platform has processed a video to `video.ready`. */
async function hintTable({ quick }: Scale): Promise<Table> {
  const secret = 'the secret of the bench'
  const delays = quick ? [3_000, 5_500] : [3_000, 4_000, 5_500, 7_000, 8_500, 10_000, 12_000]
  const measure = async (hints: boolean) => {
    const sandbox = await startSandbox({ knobs: { discard: true } })
    const gateway = await startGateway(sandbox, { SANDBOX_WEBHOOK_SECRET: secret })
    if (hints) sandbox.knobs.webhook = { url: `${gateway.url}/v1/platforms/sandbox/webhook`, secret }
    const lags = await readyLags(gateway.url, sandbox.knobs, delays)
    await gateway.stop()
    await sandbox.close()
    return [percentile(lags, 0.5), percentile(lags, 0.99)]
  }
  const [polls, hinted] = await Promise.all([measure(false), measure(true)])
  return {
    title: 'From the end of the processing on the platform to `ready`',
    note: `The sandbox processes videos for 3 to ${(delays.at(-1) ?? 0) / 1_000} s; polls at the default back-off.`,
    columns: ['variant', 'p50 ms', 'p99 ms'],
    rows: [
      ['polls alone', ...polls],
      ['webhooks of the platform', ...hinted],
    ],
    verdicts: [atMost('with webhooks of the platform: ≤ 1 s', hinted[1] ?? Number.NaN, 1_000, ' ms')],
  }
}

/** @param delays of both stages of the platform together, one wave of videos each */
async function readyLags(
  url: string,
  knobs: { processing_delay_ms: number },
  delays: readonly number[],
): Promise<number[]> {
  const headers = { authorization, 'content-type': 'application/json' }
  const file = Buffer.alloc(2_000)
  file.write('\0\0\0\x18ftypisom', 0, 'latin1')
  const lags: number[] = []
  for (const delay of delays) {
    // It waits this long in each of its two stages.
    knobs.processing_delay_ms = delay / 2
    const ids: string[] = []
    for (let count = 0; count < videosPerWave; count++) {
      const created = await fetch(`${url}/v1/videos`, { method: 'POST', headers, body: '{"title":"bench"}' })
      const { id } = (await created.json()) as { id: string }
      const type = { ...headers, 'content-type': 'video/mp4' }
      await fetch(`${url}/v1/videos/${id}/content`, { method: 'PUT', headers: type, body: file })
      ids.push(id)
    }
    for (const deadline = Date.now() + 60_000; ; await sleep(200)) {
      const found = await Promise.all(ids.map((id) => readyAfter(url, id)))
      const wave = found.filter((ms) => ms !== undefined).map((ms) => ms - delay)
      if (wave.length < ids.length && Date.now() < deadline) continue
      lags.push(...wave)
      break
    }
  }
  return lags
}

/** @returns ms from the end of the upload to `ready`, by the events; undefined before */
async function readyAfter(url: string, id: string): Promise<number | undefined> {
  const events = await feedOf(url, id)
  const timeOf = (type: string) => Date.parse(events.find((event) => event.type === type)?.timestamp ?? '')
  const ms = timeOf('video.ready') - timeOf('video.uploaded')
  return Number.isNaN(ms) ? undefined : ms
}

async function feedOf(url: string, video: string) {
  const response = await fetch(`${url}/v1/events?limit=200&video=${video}`, { headers: { authorization } })
  return ((await response.json()) as { items: { type: string; timestamp: string }[] }).items
}
