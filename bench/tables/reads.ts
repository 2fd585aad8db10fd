import type { RequestsResult } from '../processes/requests.ts'
import { type Engine, engines } from '../support/engines.ts'
import { key, type Server, startGateway, startServer } from '../support/processes.ts'
import { atLeast, atMost, figure, median, type Scale, type Table, type Verdict } from '../support/report.ts'
import { type Requester, startRequester } from '../support/requests.ts'
import { provision, type Sender, startSender } from '../support/uploads.ts'
import { pendingVideo } from '../support/videos.ts'

const rows = 100_000
const connections = 16

/** Status reads out of a full store, against routes that do nothing else; then the same while uploads run. */
export async function readsTable(scale: Scale): Promise<Table[]> {
  const platform = await startServer('platform')
  const requester = startRequester()
  const sender = startSender()
  try {
    const tables: Table[] = []
    for (const engine of await engines())
      tables.push(await readsOf(engine, scale, platform, requester, sender))
    return tables
  } finally {
    requester.stop()
    sender.stop()
    await platform.stop()
  }
}

async function readsOf(
  engine: Engine,
  { quick }: Scale,
  platform: Server,
  requester: Requester,
  sender: Sender,
): Promise<Table> {
  const seconds = quick ? 2 : 3
  const videos = Array.from({ length: rows }, (_, index) => pendingVideo(index, { stage: 'ready' }))
  const database = await engine.seed(videos)
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
    const share = (of: RequestsResult[], base: RequestsResult[]) =>
      median(of.map((run, round) => run.perSecond / base[round]!.perSecond))
    const row = (name: string, runs: RequestsResult[]) => [
      name,
      median(runs.map(({ perSecond }) => perSecond)),
      median(runs.map(({ p50 }) => p50)),
      median(runs.map(({ p99 }) => p99)),
    ]
    const raw = engine.name === 'SQLite' ? 'bare route, the row read' : 'bare route, the same query by raw pg'
    const ofBare = share(alone.gateway, alone.bare)
    const ofRaw = share(alone.gateway, alone.stored)
    const goals: Record<Engine['name'], Verdict> = {
      SQLite: atLeast('status reads ≥ 0.70 × the bare route', ofBare, 0.7, ' ×'),
      PostgreSQL: atLeast('status reads ≥ 0.60 × a bare route with the same raw pg query', ofRaw, 0.6, ' ×'),
    }
    return {
      title: `Status reads, ${rows.toLocaleString('en')} videos in ${engine.name}, ${connections} connections`,
      note:
        'With an API key, counted; the bare routes do neither. Latencies in whole milliseconds. ' +
        `The row alone leaves ${figure(share(alone.stored, alone.bare))} × of the bare route.`,
      columns: ['variant', 'requests/s', 'p50 ms', 'p99 ms'],
      rows: [
        row('bare Fastify route', alone.bare),
        row(raw, alone.stored),
        row('gateway', alone.gateway),
        row('gateway, during 16 uploads', busy),
      ],
      verdicts: [
        goals[engine.name],
        atMost('p99 during 16 uploads ≤ 50 ms', median(busy.map(({ p99 }) => p99)), 50, ' ms'),
      ],
    }
  } finally {
    await Promise.all([gateway, bare, stored].map((server) => server.stop()))
    await engine.drop(database)
  }
}
