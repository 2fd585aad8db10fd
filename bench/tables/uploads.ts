import { type Server, startGateway, startNginx, startServer } from '../support/processes.ts'
import { atMost, mebibytes, median, type Scale, type Table, type Verdict } from '../support/report.ts'
import { provision, startSender } from '../support/uploads.ts'
import { watch } from '../support/usage.ts'

const GiB = 2 ** 30

interface Variant {
  name: string
  /** The process whose cost is measured; none for the direct upload. */
  server?: Server
  form: boolean
  /** Where the content goes, `count` uploads at once. */
  urls(count: number): string[] | Promise<string[]>
}

interface Run {
  cpuPerGiB: number
  seconds: number
  peakMemory: number
}

const pipeName = 'bare http → undici pipe'
const formName = 'bare Fastify + @fastify/multipart → undici'
const rawName = 'gateway, raw PUT'
const multipartName = 'gateway, multipart POST'

/** One stream, then many at once, through every variant in turn. */
export async function uploadTables({ quick }: Scale): Promise<Table[]> {
  const platform = await startServer('platform')
  const variants = await startVariants(platform)
  const sender = startSender()
  try {
    const measure = async (variant: Variant, streams: number, bytes: number): Promise<Run> => {
      const urls = await variant.urls(streams)
      const usage = variant.server && watch(variant.server.pid)
      const method = variant.form ? 'POST' : 'PUT'
      const { seconds, statuses } = await sender.send({ urls, method, bytes, form: variant.form })
      if (statuses.some((status) => status !== 204)) throw new Error(`${variant.name}: ${statuses}`)
      const { cpu = Number.NaN, peakMemory = Number.NaN } = usage?.() ?? {}
      return { cpuPerGiB: (cpu * GiB) / (bytes * streams), seconds, peakMemory }
    }
    // Both the code and the connections get warm.
    for (const variant of variants) await measure(variant, 1, GiB / 8)

    const one = await interleave(variants, quick ? 2 : 5, (variant) =>
      measure(variant, 1, quick ? GiB / 4 : GiB),
    )
    const many = await interleave(variants, quick ? 1 : 3, (variant) =>
      measure(variant, 32, quick ? GiB / 128 : GiB / 32),
    )
    return [
      table(`Upload, 1 stream of ${quick ? '256 MiB' : '1 GiB'}`, one, verdicts(one)),
      table(`Upload, 32 streams at once of ${quick ? '8' : '32'} MiB`, many, []),
    ]
  } finally {
    sender.stop()
    await Promise.all(
      [platform, ...new Set(variants.flatMap(({ server }) => server ?? []))].map((s) => s.stop()),
    )
  }
}

async function startVariants(platform: Server): Promise<Variant[]> {
  const ingest = `${platform.url}/ingest/bench`
  const env = { TARGET: ingest }
  const pipe = await startServer('pipe', env)
  const form = await startServer('multipart', env)
  const nginx = await startNginx(ingest)
  // What was uploaded is not watched meanwhile: that is another table.
  const gateway = await startGateway(platform, { POLL_INITIAL_DELAY: '1h', POLL_MAX_DELAY: '1h' })
  const same = (url: string) => (count: number) => Array<string>(count).fill(url)
  const raw = (name: string, server: Server) => ({ name, server, form: false, urls: same(server.url) })
  return [
    { name: 'direct', form: false, urls: same(ingest) },
    ...(nginx ? [raw('nginx, proxy_request_buffering off', nginx)] : []),
    raw(pipeName, pipe),
    { name: rawName, server: gateway, form: false, urls: (count) => provision(gateway, count) },
    { ...raw(formName, form), form: true },
    { name: multipartName, server: gateway, form: true, urls: (count) => provision(gateway, count) },
  ]
}

/** Runs every variant once per round, so that other load on the machine affects all of them alike. */
async function interleave(variants: Variant[], rounds: number, measure: (variant: Variant) => Promise<Run>) {
  const runs = new Map<string, Run[]>(variants.map(({ name }) => [name, []]))
  for (let round = 0; round < rounds; round++) {
    const shift = round % variants.length
    for (const variant of [...variants.slice(shift), ...variants.slice(0, shift)]) {
      runs.get(variant.name)?.push(await measure(variant))
    }
  }
  return runs
}

/** The median over the rounds of one variant's cost to another's in the same round. */
function ratio(runs: Map<string, Run[]>, name: string, base: string): number {
  const bases = runs.get(base) ?? []
  return median((runs.get(name) ?? []).map(({ cpuPerGiB }, round) => cpuPerGiB / bases[round]!.cpuPerGiB))
}

function table(title: string, runs: Map<string, Run[]>, goals: Verdict[]): Table {
  return {
    title,
    note: 'CPU of the process in the middle alone. Medians; ratios are medians of the ratios within a round.',
    columns: ['variant', 'CPU s/GiB', '× pipe', '× bare multipart', 'wall s', 'peak MiB'],
    rows: [...runs].map(([name, of]) => [
      name,
      median(of.map(({ cpuPerGiB }) => cpuPerGiB)),
      ratio(runs, name, pipeName),
      ratio(runs, name, formName),
      median(of.map(({ seconds }) => seconds)),
      mebibytes(median(of.map(({ peakMemory }) => peakMemory))),
    ]),
    verdicts: goals,
  }
}

function verdicts(runs: Map<string, Run[]>): Verdict[] {
  const raw = ratio(runs, rawName, pipeName)
  const form = ratio(runs, multipartName, formName)
  return [
    atMost('gateway raw PUT, CPU per GiB ≤ 1.10 × the bare Node pipe', raw, 1.1, ' ×'),
    atMost('gateway multipart, CPU per GiB ≤ 1.00 × the bare handler', form, 1, ' ×'),
    atMost('gateway multipart, CPU per GiB: the aim of 0.75 × the bare handler', form, 0.75, ' ×'),
  ]
}
