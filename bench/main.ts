import { writeFileSync } from 'node:fs'
import { arch, availableParallelism, cpus, platform, release, totalmem } from 'node:os'
import { parseArgs } from 'node:util'
import { stopEngines } from './support/engines.ts'
import { figure, print, type Scale, type Table } from './support/report.ts'
import { eventsTable } from './tables/events.ts'
import { pollerTable } from './tables/poller.ts'
import { provisioningTable } from './tables/provisioning.ts'
import { readsTable } from './tables/reads.ts'
import { replicasTable } from './tables/replicas.ts'
import { rowsTable } from './tables/rows.ts'
import { slowTable } from './tables/slow.ts'
import { startTable } from './tables/start.ts'
import { uploadTables } from './tables/uploads.ts'

/** Every table by its name, in the order of printing. Each starts and stops what it needs. */
const tables: Record<string, (scale: Scale) => Promise<Table[]>> = {
  uploads: uploadTables,
  slow: slowTable,
  reads: readsTable,
  rows: rowsTable,
  provisioning: provisioningTable,
  poller: pollerTable,
  replicas: replicasTable,
  events: eventsTable,
  start: startTable,
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { quick: { type: 'boolean', default: false }, json: { type: 'string' } },
})
const unknown = positionals.filter((name) => !(name in tables))
if (unknown.length || platform() !== 'linux') {
  console.error(`usage: npm run bench -- [--quick] [--json FILE] [${Object.keys(tables).join('|')} …]`)
  console.error(unknown.length ? `there is no table ${unknown}` : 'the bench reads /proc and needs Linux')
  process.exit(2)
}

const machine = `${cpus()[0]?.model ?? arch()}, ${availableParallelism()} cores, ${figure(totalmem() / 2 ** 30)} GiB, Linux ${release()}, Node ${process.versions.node}`
console.log(`${machine}${values.quick ? '; quick: fewer rounds, smaller files' : ''}\n`)

const started = performance.now()
const done: Table[] = []
for (const [name, run] of Object.entries(tables)) {
  if (positionals.length && !positionals.includes(name)) continue
  for (const table of await run({ quick: values.quick })) {
    done.push(table)
    console.log(`${print(table)}\n`)
  }
}

const verdicts = done.flatMap((table) => table.verdicts)
const reached = verdicts.filter((verdict) => verdict.reached).length
console.log(
  `${reached} of ${verdicts.length} goals reached, in ${figure((performance.now() - started) / 1000)} s`,
)
if (values.json) writeFileSync(values.json, `${JSON.stringify({ machine, tables: done }, null, 2)}\n`)
await stopEngines()
process.exit()
