import { DatabaseSync } from 'node:sqlite'
import type { Video } from '../../src/publication/video.ts'
import { openStore } from '../../src/store/sqlite.ts'
import { freshPath, key, startGateway } from '../support/processes.ts'
import { atMost, median, percentile, type Scale, type Table } from '../support/report.ts'
import { pendingVideo } from '../support/videos.ts'

/** The calls, and what is rare about each: of all rows they return fifty or none. */
const calls: Record<string, string> = {
  'a page, no filter': '/v1/videos',
  'a page, in the middle': '/v1/videos?cursor=MIDDLE',
  'status=pending': '/v1/videos?status=pending',
  'status=error, none': '/v1/videos?status=error',
  'platform=mux, 10 rows': '/v1/videos?platform=mux',
  'platform=mux&status=error, none': '/v1/videos?platform=mux&status=error',
  'reference of half the rows': '/v1/videos?reference=shared',
  'the same, status=error, none': '/v1/videos?reference=shared&status=error',
  'GET /metrics': '/metrics',
}

/** Rows of the small database: every page that the large one fills is full there too. */
const few = 500

/** Lists and metrics over very many rows, side by side with a few. */
export async function rowsTable({ quick }: Scale): Promise<Table[]> {
  const many = quick ? 100_000 : 1_000_000
  const servers = await Promise.all(
    [few, many].map(async (rows) =>
      startGateway(
        { url: 'http://127.0.0.1:9' },
        { DATABASE_URL: await seedRows(rows), RATE_LIMIT: '1000000', POLL_INITIAL_DELAY: '1h' },
      ),
    ),
  )
  try {
    const measured: { call: string; small: number[]; large: number[] }[] = []
    for (const [call, path] of Object.entries(calls)) {
      const [small, large] = await alternate(
        servers.map(({ url }, index) => url + path.replace('MIDDLE', middleOf(index === 0 ? few : many))),
        quick ? 50 : 200,
      )
      measured.push({ call, small: small!, large: large! })
    }
    const name = many.toLocaleString('en')
    const ratio = ({ small, large }: { small: number[]; large: number[] }) => median(large) / median(small)
    return [
      {
        title: `Lists and metrics, ${few} and ${name} videos in SQLite`,
        note: 'One call after the other, over HTTP, the two databases in turn. Half of the rows are tombstones.',
        columns: ['call', `${few}: p50 ms`, `${name}: p50 ms`, `${name}: p95 ms`, 'ratio'],
        rows: measured.map((row) => [
          row.call,
          median(row.small),
          median(row.large),
          percentile(row.large, 0.95),
          ratio(row),
        ]),
        verdicts: [
          atMost(
            `no call takes more than 3 × as long with ${name} rows`,
            Math.max(...measured.map(ratio)),
            3,
            ' ×',
          ),
        ],
      },
    ]
  } finally {
    await Promise.all(servers.map((server) => server.stop()))
  }
}

/** Milliseconds of each call, by URL; the URLs take turns so that the machine's mood tells on all alike. */
async function alternate(urls: string[], rounds: number): Promise<number[][]> {
  const times: number[][] = urls.map(() => [])
  // The first ones warm up.
  for (let round = -20; round < rounds; round++) {
    for (const [index, url] of urls.entries()) {
      const started = performance.now()
      const response = await fetch(url, { headers: { authorization: `Bearer ${key}` } })
      await response.arrayBuffer()
      if (response.status !== 200) throw new Error(`${url} answered ${response.status}`)
      if (round >= 0) times[index]!.push(performance.now() - started)
    }
  }
  return times
}

const middleOf = (rows: number) => Buffer.from(idOf(Math.floor(rows / 2))).toString('base64url')

/** Ids in the order of creation, as UUIDv7 are. */
const idOf = (index: number) =>
  `01930000-${Math.floor(index / 65_536)
    .toString(16)
    .padStart(4, '0')}-7000-8000-${index.toString(16).padStart(12, '0')}`

/** Made by SQLite itself from one document, which takes a tenth of the time that a million `INSERT`s would. */
async function seedRows(count: number): Promise<string> {
  const url = `sqlite:${freshPath('rows.db')}`
  await openStore(url).close()
  const db = new DatabaseSync(url.replace('sqlite:', ''))
  const video: Video = pendingVideo(0, { stage: 'ready', reference: null })
  db.prepare(`
    INSERT INTO videos (id, document)
    WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ? - 1),
         v (i, id) AS (SELECT i, printf('01930000-%04x-7000-8000-%012x', i / 65536, i) FROM n)
    SELECT id, json_set(?, '$.id', id,
      '$.reference', iif(i % 2 = 0, 'shared', 'cms-' || i),
      '$.platform', iif(i < 10, 'mux', 'sandbox'),
      '$.stage', CASE WHEN i % 10 < 5 THEN 'deleted' WHEN i % 10 = 5 THEN 'processing' ELSE 'ready' END)
    FROM v`).run(count, JSON.stringify(video))
  db.exec('PRAGMA wal_checkpoint(TRUNCATE)')
  db.close()
  return url
}
