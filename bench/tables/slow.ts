import { setTimeout as sleep } from 'node:timers/promises'
import { startGateway, startServer } from '../support/processes.ts'
import { atMost, mebibytes, type Scale, type Table } from '../support/report.ts'
import { provision, startSender } from '../support/uploads.ts'
import { memory, watch } from '../support/usage.ts'

const MiB = 2 ** 20
const streams = 50

/** Callers that are faster than the platform: what is in between has to stay small. */
export async function slowTable({ quick }: Scale): Promise<Table[]> {
  const platform = await startServer('platform', { READ_BYTES_PER_SECOND: '1000000' })
  const sender = startSender()
  const seconds = quick ? 3 : 15
  const rows: Table['rows'] = []
  const above: number[] = []
  try {
    for (const form of [false, true]) {
      const gateway = await startGateway(platform)
      const urls = await provision(gateway, streams)
      await sleep(1_000)
      const idle = memory(gateway.pid)
      const usage = watch(gateway.pid)
      const method = form ? 'POST' : 'PUT'
      await sender.send({ urls, method, form, bytes: 1024 * MiB, cutAfter: seconds * 1000 })
      const { cpu, peakMemory } = usage()
      above.push((peakMemory - idle) / MiB)
      rows.push([
        form ? 'gateway, multipart POST' : 'gateway, raw PUT',
        mebibytes(idle),
        mebibytes(peakMemory),
        (peakMemory - idle) / MiB,
        (peakMemory - idle) / MiB / streams,
        cpu / seconds,
      ])
      await gateway.stop()
    }
  } finally {
    sender.stop()
    await platform.stop()
  }
  return [
    {
      title: `Memory: ${streams} streams of 1 GiB against a platform that reads 1 MB/s of each`,
      note: `Resident memory over the first ${seconds} s; the uploads are then cut. CPU in cores.`,
      columns: ['variant', 'idle MiB', 'peak MiB', 'above idle MiB', 'MiB per stream', 'cores'],
      rows,
      verdicts: [atMost('memory above idle ≤ 100 MiB', Math.max(...above), 100, ' MiB')],
    },
  ]
}
