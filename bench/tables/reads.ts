import type { RequestsResult } from '../processes/requests.ts'
import { key, startGateway, startServer } from '../support/processes.ts'
import { atLeast, atMost, median, type Scale, type Table } from '../support/report.ts'
import { startRequester } from '../support/requests.ts'
import { provision, startSender } from '../support/uploads.ts'
import { pendingVideo, seed } from '../support/videos.ts'

const rows = 100_000
const connections = 16

/** Status reads out of a full store, against a route that does nothing; then the same while uploads run. */
export async function readsTable({ quick }: Scale): Promise<Table[]> {
  const seconds = quick ? 2 : 3
  const videos = Array.from({ length: rows }, (_, index) => pendingVideo(index, { stage: 'ready' }))
  const platform = await startServer('platform')
  const gateway = await startGateway(platform, {
    DATABASE_URL: seed(videos),
    PUBLIC_URL: 'https://gateway.example',
    POLL_INITIAL_DELAY: '1h',
    POLL_MAX_DELAY: '1h',
  })
  // Spread over the whole table.
  const paths = videos.filter((_, index) => index % 97 === 0).map(({ id }) => `/v1/videos/${id}/status`)
  const example = await fetch(gateway.url + paths[0], { headers: { authorization: `Bearer ${key}` } })
  const bare = await startServer('status', { ANSWER: await example.text() })
  const requester = startRequester()
  const sender = startSender()
  const read = (url: string, duration = seconds) =>
    requester.run({ url, paths, method: 'GET', connections, seconds: duration })
  try {
    const alone: Record<'bare' | 'gateway', RequestsResult[]> = { bare: [], gateway: [] }
    await read(gateway.url, 2)
    await read(bare.url, 2)
    for (let round = 0; round < (quick ? 1 : 4); round++) {
      alone.bare.push(await read(bare.url))
      alone.gateway.push(await read(gateway.url))
    }
    const busy: RequestsResult[] = []
    for (let round = 0; round < (quick ? 1 : 3); round++) {
      // As many bytes as it takes to outlast the reads; what is left is cut.
      const uploads = sender.send({
        urls: await provision(gateway, 16),
        method: 'PUT',
        form: false,
        bytes: 2 ** 36,
        cutAfter: (seconds + 1) * 1000,
      })
      busy.push(await read(gateway.url))
      await uploads
    }
    const share = median(alone.gateway.map((run, round) => run.perSecond / alone.bare[round]!.perSecond))
    const row = (name: string, runs: RequestsResult[]) => [
      name,
      median(runs.map(({ perSecond }) => perSecond)),
      median(runs.map(({ p50 }) => p50)),
      median(runs.map(({ p99 }) => p99)),
    ]
    return [
      {
        title: `Status reads, ${rows.toLocaleString('en')} videos in SQLite, ${connections} connections`,
        note: 'With an API key, logged; the bare route does neither. Latencies in whole milliseconds.',
        columns: ['variant', 'requests/s', 'p50 ms', 'p99 ms'],
        rows: [
          row('bare Fastify route', alone.bare),
          row('gateway', alone.gateway),
          row('gateway, during 16 uploads', busy),
        ],
        verdicts: [
          atLeast('status reads ≥ 0.70 × the bare route', share, 0.7, ' ×'),
          atMost('p99 during 16 uploads ≤ 50 ms', median(busy.map(({ p99 }) => p99)), 50, ' ms'),
        ],
      },
    ]
  } finally {
    requester.stop()
    sender.stop()
    await Promise.all([gateway, bare, platform].map((server) => server.stop()))
  }
}
