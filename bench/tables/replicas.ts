import { engines } from '../support/engines.ts'
import { type Polling, poll } from '../support/polling.ts'
import { atMost, mebibytes, type Scale, type Table } from '../support/report.ts'
import { bound } from './poller.ts'

const videos = 100_000

/** The poller on one PostgreSQL, in more and more processes. */
export async function replicasTable({ quick }: Scale): Promise<Table[]> {
  const engine = (await engines()).find(({ name }) => name === 'PostgreSQL')
  if (!engine) return []
  const runs: Polling[] = []
  for (const processes of [1, 2, 3])
    runs.push(await poll(engine, { videos, seconds: quick ? 4 : 20, processes }))
  const last = runs.at(-1)!
  return [
    {
      title: `Replicas on one PostgreSQL, ${videos.toLocaleString('en')} pending videos at the default back-off`,
      note:
        'CPU of all gateways together, and of the database. A double poll is one within half a minute of the poll before, ' +
        'counted by the platform from the start of the processes to the end.',
      columns: [
        'processes',
        'polls/s',
        'gateways ms/poll',
        'database ms/poll',
        'lag p50',
        'lag p99',
        'double polls',
        'peak MiB',
      ],
      rows: runs.map((run, index) => [
        String(index + 1),
        run.perSecond,
        run.cpuPerPoll,
        run.databaseCpuPerPoll,
        bound(run.p50),
        bound(run.p99),
        String(run.doubles),
        mebibytes(run.peakMemory),
      ]),
      verdicts: [
        atMost('three replicas: p99 lag ≤ 1 s', last.p99, 1, ' s'),
        atMost('double polls: none', Math.max(...runs.map(({ doubles }) => doubles)), 0),
      ],
    },
  ]
}
