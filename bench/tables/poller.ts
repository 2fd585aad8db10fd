import { engines } from '../support/engines.ts'
import { costOfCall, type Polling, poll, rate } from '../support/polling.ts'
import { atMost, figure, mebibytes, type Scale, type Table, type Verdict } from '../support/report.ts'

/** The poller at the same rate over growing numbers of videos, so that only the number differs; one table per engine. */
export async function pollerTable({ quick }: Scale): Promise<Table[]> {
  const seconds = quick ? 4 : 15
  const call = await costOfCall(seconds / 2)
  const own = (run: Polling) => run.cpuPerPoll - call
  const tables: Table[] = []
  for (const engine of await engines()) {
    const rows: [string, Polling][] = []
    for (const videos of quick ? [1_000, 100_000] : [1_000, 10_000, 100_000])
      rows.push([videos.toLocaleString('en'), await poll(engine, { videos, seconds })])
    const [few, many] = [rows[0]![1], rows.at(-1)![1]]
    if (engine.name === 'PostgreSQL')
      rows.push(['100,000, raw pg', await poll(engine, { videos: 100_000, seconds, raw: true })])
    tables.push({
      title: `Poller, ${figure(rate)} polls a second, ${engine.name}`,
      note:
        'The delays are such that every row has the same rate; for 100,000 videos they are the defaults. ' +
        `The HTTP call alone costs ${figure(call)} ms of CPU at this rate. Lags are upper bounds, from the metric's buckets.`,
      columns: [
        'pending',
        'polls/s',
        'CPU ms/poll',
        'beside the call',
        'database ms/poll',
        'lag p50',
        'lag p99',
        'peak MiB',
        'start to first poll ms',
      ],
      rows: rows.map(([name, run]) => [
        name,
        run.perSecond,
        run.cpuPerPoll,
        own(run),
        engine.name === 'SQLite' ? '–' : run.databaseCpuPerPoll,
        bound(run.p50),
        bound(run.p99),
        mebibytes(run.peakMemory),
        run.firstPoll,
      ]),
      verdicts: [
        atMost(`${engine.name}, 100,000 pending: p99 lag ≤ 1 s`, many.p99, 1, ' s'),
        // The driver of PostgreSQL costs a process more than SQLite, which is a part of it: no goal of its own.
        ...(engine.name === 'SQLite'
          ? [atMost('100,000 pending: CPU per poll ≤ 0.2 ms beside the HTTP call', own(many), 0.2, ' ms')]
          : []),
        growth(engine.name, few, many),
      ],
    })
  }
  return tables
}

export const bound = (seconds: number) => (Number.isNaN(seconds) ? '–' : `≤ ${seconds} s`)

function growth(engine: string, few: Polling, many: Polling): Verdict {
  const ratio = many.cpuPerPoll / few.cpuPerPoll
  return atMost(`${engine}: CPU per poll of 100,000 no more than 1.25 × that of 1,000`, ratio, 1.25, ' ×')
}
