import { once } from 'node:events'
import type { Commits } from '../processes/commits.ts'
import type { RequestsResult } from '../processes/requests.ts'
import { type Engine, engines } from '../support/engines.ts'
import { forkProcess, type Server, startGateway, startServer } from '../support/processes.ts'
import { atLeast, median, type Scale, type Table } from '../support/report.ts'
import { startRequester } from '../support/requests.ts'
import { watch } from '../support/usage.ts'

const connections = 16

/** What so many creations, or pairs of commits, a second have cost. */
interface Run extends Pick<RequestsResult, 'perSecond' | 'p50' | 'p99'> {
  /** CPU per creation in ms: of the process that creates, and of the database. */
  own: number
  database: number
}

/** Creating videos: durable transactions before and after the platform is asked, against two raw ones. */
export async function provisioningTable(scale: Scale): Promise<Table[]> {
  const runs: { engine: Engine; raw: Run[]; bare: Run[]; created: Run[] }[] = []
  for (const engine of await engines()) runs.push({ engine, ...(await create(engine, scale)) })
  const share = (of: Run[], base: Run[]) =>
    median(of.map(({ perSecond }, round) => perSecond / base[round]!.perSecond))
  return [
    {
      title: `Provisioning, durable, ${connections} connections`,
      note:
        'Two raw commits: an insert and an update of one row, by the driver alone. Bare route: Fastify, the same two commits, and ' +
        'one call to the platform by undici between them. The gateway also stores that a slot is about to be created, and the ' +
        'event. CPU per creation: of the process that creates, and of the database.',
      columns: ['variant', 'per second', 'share', 'CPU ms', 'database CPU ms', 'p50 ms', 'p99 ms'],
      rows: runs.flatMap(({ engine, raw, bare, created }) => [
        rowOf(`${engine.name}: two raw commits`, raw, 1),
        rowOf(`${engine.name}: bare route`, bare, share(bare, raw)),
        rowOf(`${engine.name}: POST /v1/videos`, created, share(created, raw)),
      ]),
      verdicts: runs
        .filter(({ engine }) => engine.name === 'PostgreSQL')
        .map(({ raw, created }) =>
          atLeast('PostgreSQL: provisioning ≥ 0.50 × two raw commits', share(created, raw), 0.5, ' ×'),
        ),
    },
  ]
}

function rowOf(name: string, runs: Run[], share: number) {
  const of = (field: keyof Run) => median(runs.map((run) => run[field]))
  const latency = (field: 'p50' | 'p99') => (Number.isNaN(of(field)) ? '–' : of(field))
  return [name, of('perSecond'), share, of('own'), of('database'), latency('p50'), latency('p99')]
}

async function create(engine: Engine, { quick }: Scale) {
  const seconds = quick ? 2 : 3
  const url = await engine.create()
  const platform = await startServer('platform')
  const gateway = await startGateway(platform, { DATABASE_URL: url })
  const route = await startServer('creations', { DATABASE_URL: url, TARGET: platform.url })
  const requester = startRequester()
  const committer = forkProcess('commits')
  /** @param work how many a second, after `seconds` */
  async function measure<T>(pid: number, work: () => Promise<T>, perSecond: (result: T) => number) {
    const usage = watch(pid)
    const before = await engine.cpu()
    const result = await work()
    const cpu = (used: number) => (used * 1000) / (perSecond(result) * seconds)
    return { result, own: cpu(usage().cpu), database: cpu((await engine.cpu()) - before) }
  }
  const commit = async (): Promise<Run> => {
    const answered = once(committer, 'message')
    const work = async () => {
      committer.send({ url, seconds, connections } satisfies Commits)
      return (await answered)[0] as number
    }
    const { result, ...used } = await measure(committer.pid as number, work, (pairs) => pairs)
    return { ...used, perSecond: result, p50: Number.NaN, p99: Number.NaN }
  }
  const request = async ({ url, pid }: Server): Promise<Run> => {
    const body = '{"title":"bench"}'
    const send = () =>
      requester.run({ url, paths: ['/v1/videos'], method: 'POST', body, connections, seconds })
    const { result, ...used } = await measure(pid, send, ({ perSecond }) => perSecond)
    return { ...used, ...result }
  }
  try {
    await commit()
    for (const server of [route, gateway]) await request(server)
    const raw: Run[] = []
    const bare: Run[] = []
    const created: Run[] = []
    for (let round = 0; round < (quick ? 1 : 3); round++) {
      raw.push(await commit())
      bare.push(await request(route))
      created.push(await request(gateway))
    }
    return { raw, bare, created }
  } finally {
    requester.stop()
    committer.disconnect()
    await Promise.all([gateway, route, platform].map((server) => server.stop()))
    await engine.drop(url)
  }
}
