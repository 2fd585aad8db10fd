import { type Engine, engines, idOf } from '../support/engines.ts'
import { key, startGateway, startServer } from '../support/processes.ts'
import { atMost, median, percentile, type Scale, type Table } from '../support/report.ts'
import { pendingVideo } from '../support/videos.ts'

interface Call {
  method?: 'GET' | 'POST' | 'DELETE'
  /** @param rows videos in the database */
  path: string | ((rows: number, round: number) => string)
}

const json = { 'content-type': 'application/json' }

/** Video `i` is a tombstone if `i % 10 < 5`, pending if it is 5, else ready; see `Engine.fill`. */
const ready = (rows: number, round: number) => idOf((Math.floor(rows / 20) + round) * 10 + 6)
/** Others than those; the first ten videos are on a platform that is not configured. */
const removed = (round: number) => idOf((Math.floor(round / 3) + 1) * 10 + 7 + (round % 3))

/** Every kind of call. Of all rows the lists return fifty or none. */
const calls: Record<string, Call> = {
  'GET a video': { path: (rows, round) => `/v1/videos/${ready(rows, round % 40)}` },
  'GET …/status': { path: (rows, round) => `/v1/videos/${ready(rows, round % 40)}/status` },
  'POST /v1/videos': { method: 'POST', path: '/v1/videos' },
  'DELETE, of a ready video': { method: 'DELETE', path: (_, round) => `/v1/videos/${removed(round)}` },
  'a page, no filter': { path: '/v1/videos' },
  'a page, in the middle': {
    path: (rows) => `/v1/videos?cursor=${Buffer.from(idOf(Math.floor(rows / 2))).toString('base64url')}`,
  },
  'status=pending': { path: '/v1/videos?status=pending' },
  'status=error, none': { path: '/v1/videos?status=error' },
  'platform=mux, 10 rows': { path: '/v1/videos?platform=mux' },
  'platform=mux&status=error, none': { path: '/v1/videos?platform=mux&status=error' },
  'reference of half the rows': { path: '/v1/videos?reference=shared' },
  'the same, status=error, none': { path: '/v1/videos?reference=shared&status=error' },
  'GET /metrics': { path: '/metrics' },
}

/** Rows of the small database: every page that the large one fills is full there too. */
const few = 1_000

/** Every call over very many rows, side by side with a few; one table per engine. */
export async function rowsTable(scale: Scale): Promise<Table[]> {
  const tables: Table[] = []
  for (const engine of await engines()) tables.push(await rowsOf(engine, scale))
  return tables
}

async function rowsOf(engine: Engine, { quick }: Scale): Promise<Table> {
  const many = quick ? 100_000 : 1_000_000
  const platform = await startServer('platform')
  const model = pendingVideo(0, { stage: 'ready', reference: null })
  const urls = await Promise.all([few, many].map((rows) => engine.fill(rows, model)))
  const servers = await Promise.all(
    urls.map((url) =>
      startGateway(platform, { DATABASE_URL: url, RATE_LIMIT: '1000000', POLL_INITIAL_DELAY: '1h' }),
    ),
  )
  try {
    const targets = [few, many].map((rows, index) => ({ rows, url: servers[index]!.url }))
    const measured: { call: string; small: number[]; large: number[] }[] = []
    for (const [name, call] of Object.entries(calls)) {
      const [small, large] = await alternate(targets, call, quick ? 30 : 200)
      measured.push({ call: name, small: small!, large: large! })
    }
    const name = many.toLocaleString('en')
    const ratio = ({ small, large }: { small: number[]; large: number[] }) => median(large) / median(small)
    return {
      title: `Calls, ${few.toLocaleString('en')} and ${name} videos in ${engine.name}`,
      note: 'One call after the other, over HTTP, the two databases in turn. Half of the rows are tombstones.',
      columns: ['call', `${few.toLocaleString('en')}: p50 ms`, `${name}: p50 ms`, `${name}: p95 ms`, 'ratio'],
      rows: measured.map((row) => [
        row.call,
        median(row.small),
        median(row.large),
        percentile(row.large, 0.95),
        ratio(row),
      ]),
      verdicts: [
        atMost(
          `${engine.name}: no call takes more than 1.5 × as long with ${name} rows`,
          Math.max(...measured.map(ratio)),
          1.5,
          ' ×',
        ),
      ],
    }
  } finally {
    await Promise.all([...servers, platform].map((server) => server.stop()))
    for (const url of urls) await engine.drop(url)
  }
}

/** Rounds that warm up, before those that count. */
const warmUp = 10

/** Milliseconds of each call, by database; they take turns so that other load on the machine affects all alike. */
async function alternate(
  targets: { rows: number; url: string }[],
  { method = 'GET', path }: Call,
  rounds: number,
): Promise<number[][]> {
  const times: number[][] = targets.map(() => [])
  for (let round = 0; round < warmUp + rounds; round++) {
    for (const [index, { rows, url }] of targets.entries()) {
      const target = url + (typeof path === 'string' ? path : path(rows, round))
      const started = performance.now()
      const response = await fetch(target, {
        method,
        headers: { authorization: `Bearer ${key}`, ...(method === 'POST' && json) },
        ...(method === 'POST' && { body: '{"title":"bench"}' }),
      })
      await response.arrayBuffer()
      if (!response.ok) throw new Error(`${method} ${target} answered ${response.status}`)
      if (round >= warmUp) times[index]!.push(performance.now() - started)
    }
  }
  return times
}
