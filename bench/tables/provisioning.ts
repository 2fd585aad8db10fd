import { openStore } from '../../src/store/sqlite.ts'
import { freshPath, startGateway, startServer } from '../support/processes.ts'
import { median, type Scale, type Table } from '../support/report.ts'
import { startRequester } from '../support/requests.ts'
import { pendingVideo } from '../support/videos.ts'

/** Creating videos: two durable transactions each, before and after the platform is asked. */
export async function provisioningTable({ quick }: Scale): Promise<Table[]> {
  const seconds = quick ? 1 : 3
  const platform = await startServer('platform')
  const gateway = await startGateway(platform)
  const requester = startRequester()
  const create = () =>
    requester.run({
      url: gateway.url,
      paths: ['/v1/videos'],
      method: 'POST',
      body: '{"title":"bench"}',
      connections: 16,
      seconds,
    })
  try {
    await create()
    const inserts: number[] = []
    const created: Awaited<ReturnType<typeof create>>[] = []
    for (let round = 0; round < (quick ? 1 : 3); round++) {
      inserts.push(await insertsPerSecond(seconds))
      created.push(await create())
    }
    const perSecond = median(created.map((run) => run.perSecond))
    const raw = median(inserts)
    return [
      {
        title: 'Provisioning, durable SQLite, 16 connections',
        note: 'Each video is stored before the platform is asked and again with its slot: two flushes to disk.',
        columns: ['variant', 'per second', 'share', 'p50 ms', 'p99 ms'],
        rows: [
          ['raw durable inserts', raw, 1, '–', '–'],
          [
            'POST /v1/videos',
            perSecond,
            perSecond / raw,
            median(created.map(({ p50 }) => p50)),
            median(created.map(({ p99 }) => p99)),
          ],
        ],
        verdicts: [],
      },
    ]
  } finally {
    requester.stop()
    await Promise.all([gateway, platform].map((server) => server.stop()))
  }
}

/** The store's own insert, one after the other, each flushed. */
async function insertsPerSecond(seconds: number): Promise<number> {
  const store = openStore(`sqlite:${freshPath('inserts.db')}`)
  const started = performance.now()
  let count = 0
  for (; performance.now() - started < seconds * 1000; count++) await store.insert(pendingVideo(count))
  await store.close()
  return count / seconds
}
