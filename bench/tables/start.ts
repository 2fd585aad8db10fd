import { startGateway, startServer } from '../support/processes.ts'
import { atMost, median, type Scale, type Table } from '../support/report.ts'

/** From the start of the process until it listens. */
export async function startTable({ quick }: Scale): Promise<Table[]> {
  const bare: number[] = []
  const gateway: number[] = []
  for (let round = 0; round < (quick ? 3 : 10); round++) {
    for (const [times, start] of [
      [bare, () => startServer('bare')],
      [gateway, () => startGateway({ url: 'http://127.0.0.1:9' })],
    ] as const) {
      const server = await start()
      times.push(server.startedIn)
      await server.stop()
    }
  }
  return [
    {
      title: 'Start, process to listening',
      columns: ['variant', 'median ms', 'best ms', 'worst ms'],
      rows: [
        ['bare Fastify', median(bare), Math.min(...bare), Math.max(...bare)],
        ['gateway', median(gateway), Math.min(...gateway), Math.max(...gateway)],
      ],
      verdicts: [atMost('start to listening ≤ 400 ms', median(gateway), 400, ' ms')],
    },
  ]
}
