import type { RequestsResult } from '../processes/requests.ts'
import { key, startGateway, startServer } from '../support/processes.ts'
import { atLeast, atMost, figure, median, type Scale, type Table } from '../support/report.ts'
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
  const database = await seed(videos)
  const gateway = await startGateway(platform, {
    DATABASE_URL: database,
    PUBLIC_URL: 'https://gateway.example',
    POLL_INITIAL_DELAY: '1h',
    POLL_MAX_DELAY: '1h',
  })
  // Spread over the whole table.
  const paths = videos.filter((_, index) => index % 97 === 0).map(({ id }) => `/v1/videos/${id}/status`)
  const example = await fetch(gateway.url + paths[0], { headers: { authorization: `Bearer ${key}` } })
  const ANSWER = await example.text()
  const bare = await startServer('status', { ANSWER })
  const stored = await startServer('status', { ANSWER, DATABASE_URL: database })
  const requester = startRequester()
  const sender = startSender()
  const read = (url: string, duration = seconds) =>
    requester.run({ url, paths, method: 'GET', connections, seconds: duration })
  try {
    const servers = { bare, stored, gateway }
    const alone: Record<keyof typeof servers, RequestsResult[]> = { bare: [], stored: [], gateway: [] }
    for (const server of Object.values(servers)) await read(server.url, quick ? 1 : 2)
    for (let round = 0; round < (quick ? 1 : 4); round++) {
      for (const name of ['bare', 'stored', 'gateway'] as const)
        alone[name].push(await read(servers[name].url))
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
    const most = median(alone.stored.map((run, round) => run.perSecond / alone.bare[round]!.perSecond))
    const row = (name: string, runs: RequestsResult[]) => [
      name,
      median(runs.map(({ perSecond }) => perSecond)),
      median(runs.map(({ p50 }) => p50)),
      median(runs.map(({ p99 }) => p99)),
    ]
    return [
      {
        title: `Status reads, ${rows.toLocaleString('en')} videos in SQLite, ${connections} connections`,
        note: `With an API key, counted; the bare routes do neither. Latencies in whole milliseconds. The row alone leaves ${figure(most)} × of the bare route.`,
        columns: ['variant', 'requests/s', 'p50 ms', 'p99 ms'],
        rows: [
          row('bare Fastify route', alone.bare),
          row('bare route, the row read', alone.stored),
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
    await Promise.all([gateway, bare, stored, platform].map((server) => server.stop()))
  }
}
