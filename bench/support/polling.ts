import { setTimeout as sleep } from 'node:timers/promises'
import type { Engine } from './engines.ts'
import { type Server, startGateway, startServer } from './processes.ts'
import { watch } from './usage.ts'
import { pendingVideo } from './videos.ts'

/** With the default back-off 100,000 videos are asked for once a minute: as many polls a second for fewer videos. */
export const rate = 100_000 / 60

/** What polling has cost for some seconds. */
export interface Polling {
  videos: number
  perSecond: number
  /** Of all processes that poll, in ms. */
  cpuPerPoll: number
  /** Of the database's own processes, in ms; 0 for SQLite. */
  databaseCpuPerPoll: number
  /** Upper bounds in seconds, from the metric's buckets; NaN where nothing measures them. */
  p50: number
  p99: number
  /** In bytes, of the process that takes most. */
  peakMemory: number
  /** From the start of the processes to the first poll, in ms. */
  firstPoll: number
  /** Polls of a video that had been polled a moment before. */
  doubles: number
}

export interface PollingRun {
  videos: number
  seconds: number
  processes?: number
  /** Polls by the driver alone in place of the gateway; PostgreSQL only. */
  raw?: boolean
}

/** Polls `videos` at `rate` with so many processes on one database. */
export async function poll(engine: Engine, run: PollingRun): Promise<Polling> {
  const { videos, seconds, processes = 1, raw = false } = run
  const cycle = (videos / rate) * 1000
  const platform = await startServer('platform', { DOUBLE_WITHIN: String(cycle / 2) })
  // Due one after the other over a cycle that begins when all are up; a first one right at the start.
  const begin = Date.now() + 3_000 + processes * 1_000 + videos / 25
  const url = await engine.seed(
    Array.from({ length: videos }, (_, index) =>
      pendingVideo(index, { nextCheckAt: index === 0 ? 1 : Math.round(begin + (index / videos) * cycle) }),
    ),
  )
  const delay = `${Math.round(cycle)}ms`
  const env = { DATABASE_URL: url, POLL_INITIAL_DELAY: delay, POLL_MAX_DELAY: delay }
  const start = () =>
    raw
      ? startServer('raw-poller', {
          DATABASE_URL: url,
          TARGET: platform.url,
          CYCLE: String(Math.round(cycle)),
        })
      : startGateway(platform, env)
  const started = Date.now()
  const pollers = await Promise.all(Array.from({ length: processes }, start))
  try {
    await sleep(Math.max(0, begin + 500 - Date.now()))
    const exposed = raw ? [] : pollers
    const before = { ...(await polled(platform)), lags: await lagsOf(exposed), database: await engine.cpu() }
    const usages = pollers.map(({ pid }) => watch(pid))
    await sleep(seconds * 1000)
    const used = usages.map((usage) => usage())
    const after = { ...(await polled(platform)), lags: await lagsOf(exposed), database: await engine.cpu() }
    const polls = after.count - before.count
    const lags = after.lags.map(({ bound, count }, i) => ({ bound, count: count - before.lags[i]!.count }))
    return {
      videos,
      perSecond: polls / seconds,
      cpuPerPoll: (used.reduce((sum, { cpu }) => sum + cpu, 0) * 1000) / polls,
      databaseCpuPerPoll: ((after.database - before.database) * 1000) / polls,
      p50: bucket(lags, 0.5),
      p99: bucket(lags, 0.99),
      peakMemory: Math.max(...used.map(({ peakMemory }) => peakMemory)),
      firstPoll: after.firstAt - started,
      doubles: after.doubles,
    }
  } finally {
    await Promise.all([...pollers, platform].map((server) => server.stop()))
    await engine.drop(url)
  }
}

/** CPU of the HTTP call of a poll alone, in ms. */
export async function costOfCall(seconds: number): Promise<number> {
  const platform = await startServer('platform')
  const caller = await startServer('polls', { TARGET: platform.url, RATE: String(rate) })
  await sleep(2_000)
  const before = await polled(platform)
  const usage = watch(caller.pid)
  await sleep(seconds * 1000)
  const { cpu } = usage()
  const { count } = await polled(platform)
  await Promise.all([caller, platform].map((server) => server.stop()))
  return (cpu * 1000) / (count - before.count)
}

async function polled({ url }: Server) {
  const response = await fetch(`${url}/_polls`)
  return (await response.json()) as { count: number; firstAt: number; doubles: number }
}

interface Bucket {
  bound: number
  count: number
}

/** The histogram of all processes together. */
async function lagsOf(gateways: Server[]): Promise<Bucket[]> {
  const each = await Promise.all(
    gateways.map(async ({ url }) => {
      const text = await (await fetch(`${url}/metrics`)).text()
      return [...text.matchAll(/gateway_poll_lag_seconds_bucket\{le="([^"]+)"\} (\d+)/g)].map(
        ([, bound, count]) => ({
          bound: bound === '+Inf' ? Number.POSITIVE_INFINITY : Number(bound),
          count: Number(count),
        }),
      )
    }),
  )
  const [first = [], ...others] = each
  return first.map(({ bound, count }, i) => ({
    bound,
    count: others.reduce((sum, lags) => sum + lags[i]!.count, count),
  }))
}

/** The upper bound of the histogram's bucket in which this share is reached. */
function bucket(lags: Bucket[], share: number): number {
  const total = lags.at(-1)?.count ?? 0
  return total === 0 ? Number.NaN : (lags.find(({ count }) => count >= share * total)?.bound ?? Number.NaN)
}
