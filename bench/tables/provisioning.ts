import { once } from 'node:events'
import type { Commits } from '../processes/commits.ts'
import type { RequestsResult } from '../processes/requests.ts'
import { type Engine, engines } from '../support/engines.ts'
import { forkProcess, startGateway, startServer } from '../support/processes.ts'
import { atLeast, median, type Scale, type Table } from '../support/report.ts'
import { startRequester } from '../support/requests.ts'

const connections = 16

/** Creating videos: durable transactions before and after the platform is asked, against two raw ones. */
export async function provisioningTable(scale: Scale): Promise<Table[]> {
  const runs: { engine: Engine; raw: number[]; created: RequestsResult[] }[] = []
  for (const engine of await engines()) runs.push({ engine, ...(await create(engine, scale)) })
  const share = ({ raw, created }: (typeof runs)[number]) =>
    median(created.map(({ perSecond }, round) => perSecond / raw[round]!))
  return [
    {
      title: `Provisioning, durable, ${connections} connections`,
      note:
        'Two raw commits: an insert and an update of one row, by the driver alone. The gateway also asks the platform, and ' +
        'stores that a slot is about to be created.',
      columns: ['variant', 'per second', 'share', 'p50 ms', 'p99 ms'],
      rows: runs.flatMap((run) => [
        [`${run.engine.name}: two raw commits`, median(run.raw), 1, '–', '–'],
        [
          `${run.engine.name}: POST /v1/videos`,
          median(run.created.map(({ perSecond }) => perSecond)),
          share(run),
          median(run.created.map(({ p50 }) => p50)),
          median(run.created.map(({ p99 }) => p99)),
        ],
      ]),
      verdicts: runs
        .filter(({ engine }) => engine.name === 'PostgreSQL')
        .map((run) => atLeast('PostgreSQL: provisioning ≥ 0.50 × two raw commits', share(run), 0.5, ' ×')),
    },
  ]
}

async function create(engine: Engine, { quick }: Scale) {
  const seconds = quick ? 2 : 3
  const url = await engine.create()
  const platform = await startServer('platform')
  const gateway = await startGateway(platform, { DATABASE_URL: url })
  const requester = startRequester()
  const committer = forkProcess('commits')
  const commit = async (): Promise<number> => {
    const answered = once(committer, 'message')
    committer.send({ url, seconds, connections } satisfies Commits)
    return (await answered)[0]
  }
  const request = () =>
    requester.run({
      url: gateway.url,
      paths: ['/v1/videos'],
      method: 'POST',
      body: '{"title":"bench"}',
      connections,
      seconds,
    })
  try {
    await commit()
    await request()
    const raw: number[] = []
    const created: RequestsResult[] = []
    for (let round = 0; round < (quick ? 1 : 3); round++) {
      raw.push(await commit())
      created.push(await request())
    }
    return { raw, created }
  } finally {
    requester.stop()
    committer.disconnect()
    await Promise.all([gateway, platform].map((server) => server.stop()))
    await engine.drop(url)
  }
}
