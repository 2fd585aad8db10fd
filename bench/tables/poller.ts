import { setTimeout as sleep } from 'node:timers/promises'
import { type Server, startGateway, startServer } from '../support/processes.ts'
import { atMost, figure, mebibytes, type Scale, type Table, type Verdict } from '../support/report.ts'
import { watch } from '../support/usage.ts'
import { pendingVideo, seed } from '../support/videos.ts'

/** With the default back-off 100,000 videos are asked for once a minute: as many polls a second for fewer videos. */
const rate = 100_000 / 60

interface Watched {
  videos: number
  cpuPerPoll: number
  perSecond: number
  p50: string
  p99: number
  peakMemory: number
  firstPoll: number
}

/** The poller at the same rate over ever more videos, so that only their number tells. */
export async function pollerTable({ quick }: Scale): Promise<Table[]> {
  const seconds = quick ? 4 : 15
  const platform = await startServer('platform')
  const call = await costOfCall(platform, seconds / 2)
  await platform.stop()
  const runs: Watched[] = []
  for (const videos of quick ? [1_000, 100_000] : [1_000, 10_000, 100_000])
    runs.push(await watchMany(videos, seconds))
  const [few, many] = [runs[0]!, runs.at(-1)!]
  const own = (run: Watched) => run.cpuPerPoll - call
  return [
    {
      title: `Poller, ${figure(rate)} polls a second`,
      note:
        `The delays are such that every row has the same rate; for 100,000 videos they are the defaults. ` +
        `The HTTP call alone costs ${figure(call)} ms of CPU at this rate. Lags are upper bounds, from the metric's buckets.`,
      columns: [
        'pending',
        'polls/s',
        'CPU ms/poll',
        'beside the call',
        'lag p50',
        'lag p99',
        'peak MiB',
        'start to first poll ms',
      ],
      rows: runs.map((run) => [
        run.videos.toLocaleString('en'),
        run.perSecond,
        run.cpuPerPoll,
        own(run),
        run.p50,
        `≤ ${run.p99} s`,
        mebibytes(run.peakMemory),
        run.firstPoll,
      ]),
      verdicts: [
        atMost('100,000 pending: p99 lag ≤ 1 s', many.p99, 1, ' s'),
        atMost('100,000 pending: CPU per poll ≤ 0.2 ms beside the HTTP call', own(many), 0.2, ' ms'),
        growth(few, many),
      ],
    },
  ]
}

function growth(few: Watched, many: Watched): Verdict {
  const ratio = many.cpuPerPoll / few.cpuPerPoll
  return atMost('CPU per poll of 100,000 no more than 1.25 × that of 1,000', ratio, 1.25, ' ×')
}

async function watchMany(videos: number, seconds: number): Promise<Watched> {
  const platform = await startServer('platform')
  const cycle = (videos / rate) * 1000
  // Due one after the other over a cycle that begins when the gateway is up; a first one right at the start.
  const begin = Date.now() + 3_000
  const rows = Array.from({ length: videos }, (_, index) =>
    pendingVideo(index, { nextCheckAt: index === 0 ? 1 : Math.round(begin + (index / videos) * cycle) }),
  )
  const url = await seed(rows)
  const started = Date.now()
  const gateway = await startGateway(platform, {
    DATABASE_URL: url,
    POLL_INITIAL_DELAY: `${Math.round(cycle)}ms`,
    POLL_MAX_DELAY: `${Math.round(cycle)}ms`,
  })
  try {
    await sleep(Math.max(0, begin + 500 - Date.now()))
    const before = await figures(gateway, platform)
    const usage = watch(gateway.pid)
    await sleep(seconds * 1000)
    const { cpu, peakMemory } = usage()
    const after = await figures(gateway, platform)
    const polls = after.count - before.count
    const lags = after.lags.map(({ bound, count }, i) => ({ bound, count: count - before.lags[i]!.count }))
    return {
      videos,
      cpuPerPoll: (cpu * 1000) / polls,
      perSecond: polls / seconds,
      p50: `≤ ${bucket(lags, 0.5)} s`,
      p99: bucket(lags, 0.99),
      peakMemory,
      firstPoll: after.firstAt - started,
    }
  } finally {
    await gateway.stop()
    await platform.stop()
  }
}

async function costOfCall(platform: Server, seconds: number): Promise<number> {
  const caller = await startServer('polls', { TARGET: platform.url, RATE: String(rate) })
  await sleep(2_000)
  const before = await polled(platform)
  const usage = watch(caller.pid)
  await sleep(seconds * 1000)
  const { cpu } = usage()
  const { count } = await polled(platform)
  await caller.stop()
  return (cpu * 1000) / (count - before.count)
}

async function polled({ url }: Server) {
  return (await (await fetch(`${url}/_polls`)).json()) as { count: number; firstAt: number }
}

async function figures(gateway: Server, platform: Server) {
  const text = await (await fetch(`${gateway.url}/metrics`)).text()
  const lags = [...text.matchAll(/gateway_poll_lag_seconds_bucket\{le="([^"]+)"\} (\d+)/g)].map(
    ([, bound, count]) => ({
      bound: bound === '+Inf' ? Number.POSITIVE_INFINITY : Number(bound),
      count: Number(count),
    }),
  )
  return { ...(await polled(platform)), lags }
}

/** The upper bound of the histogram's bucket in which this share is reached. */
function bucket(lags: { bound: number; count: number }[], share: number): number {
  const total = lags.at(-1)?.count ?? 0
  return lags.find(({ count }) => count >= share * total)?.bound ?? Number.NaN
}
