import { spawnSync } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { parser } from '@prometheus-io/lezer-promql'
import t from 'tap'
import { parse, parseAllDocuments } from 'yaml'
import { version } from '../../src/config/version.ts'
import { form, type Json, startGateway } from '../support/gateway.ts'

const root = new URL('../../', import.meta.url)
const read = (path: string) => readFile(new URL(path, root), 'utf8')
const dashboard: Json = JSON.parse(await read('deploy/grafana/dashboard.json'))
const alerts: Json[] = parse(await read('deploy/prometheus/alerts.yaml')).groups.flatMap(
  (group: Json) => group.rules,
)
const panels: Json[] = dashboard.panels
const sample = await readFile(new URL('sandbox/sample.mp4', root))

/** Labels that Prometheus adds at the scrape. */
const scraped = ['job', 'instance']

t.test('dashboard and alerts use only metrics and labels that the gateway has', async (t) => {
  const known = await metricsOf(t)
  const queries = [
    ...alerts.map(({ alert, expr }) => ({ name: alert, expr })),
    ...panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }: Json) => ({ name: title, expr }))),
    ...dashboard.templating.list
      .filter(({ type }: Json) => type === 'query')
      .map(({ name, definition }: Json) => ({
        name,
        expr: /^label_values\((.+), \w+\)$/.exec(definition)?.[1],
      })),
  ]
  t.ok(queries.length > 40)
  for (const { name, expr } of queries) {
    const { selectors, grouping, errors } = analyse(expr)
    t.strictSame(errors, [], `${name} is PromQL`)
    t.ok(selectors.length > 0, `${name} asks for something`)
    for (const { metric, labels } of selectors) {
      const has = known.get(metric)
      if (!t.ok(has, `${name}: ${metric} exists`) || !has) continue
      for (const label of labels) t.ok(has.has(label), `${name}: ${metric} has ${label}`)
    }
    const all = new Set(selectors.flatMap(({ metric }) => [...(known.get(metric) ?? [])]))
    for (const label of grouping) t.ok(all.has(label), `${name} groups by ${label}`)
  }
})

t.test('the query check rejects a wrong query', async (t) => {
  t.ok(analyse('sum by (a (rate(x[5m]))').errors.length)
  t.strictSame(analyse('sum by (a) (rate(x{b="c"}[$__rate_interval]))'), {
    selectors: [{ metric: 'x', labels: ['b'] }],
    grouping: ['a'],
    errors: [],
  })
})

t.test('the panels of the dashboard do not overlap', async (t) => {
  t.equal(new Set(panels.map(({ id }) => id)).size, panels.length)
  const taken = new Set<string>()
  for (const { title, type, gridPos, datasource } of panels) {
    t.ok(gridPos.x + gridPos.w <= 24, `${title} fits`)
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++)
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        if (taken.has(`${x} ${y}`)) t.fail(`${title} overlaps`)
        taken.add(`${x} ${y}`)
      }
    // biome-ignore lint/suspicious/noTemplateCurlyInString: Grafana's variable
    if (type !== 'row') t.equal(datasource.uid, '${datasource}')
  }
})

t.test('each alert has an entry in the runbook', async (t) => {
  const headings = [...(await read('docs/runbook.md')).matchAll(/^## (VideoGateway\w+)$/gm)].map(
    ([, name]) => name,
  )
  const repository = 'https://git.example.com/video-gateway/blob/main'
  const rules = await read('deploy/prometheus/alerts.yaml')
  const [, command] = /^# +(sed -i .*) alerts\.yaml$/m.exec(rules) ?? []
  const { stdout } = spawnSync('sh', ['-c', command!.replace('-i ', '')], { input: rules, encoding: 'utf8' })
  t.equal(
    stdout.match(/https:\/\/ADDRESS\/docs\/runbook\.md#/g)?.length,
    alerts.length,
    'one command sets it',
  )
  t.strictSame(new Set(headings), new Set(alerts.map(({ alert }) => alert)))
  for (const { alert, labels, annotations } of alerts) {
    t.match(labels.severity, /^(warning|critical)$/)
    // A link in an alert is opened from a mail or a chat, so it names a host; the page says how to set it.
    t.equal(annotations.runbook_url, `${repository}/docs/runbook.md#${alert.toLowerCase()}`)
    t.ok(annotations.summary)
  }
})

t.test('the scrape configurations use the job name of alerts and dashboard', async (t) => {
  const [job] = (parse(await read('deploy/prometheus/scrape.yaml')) as Json).scrape_configs
  t.match(job, { job_name: 'video-gateway', metrics_path: '/metrics' })
  const monitor: Json = parse(await read('deploy/kubernetes-monitoring.yaml'))
  t.match(monitor, { apiVersion: 'monitoring.coreos.com/v1', kind: 'ServiceMonitor' })
  for (const file of ['kubernetes.yaml', 'kubernetes-sqlite.yaml']) {
    const manifests: Json[] = parseAllDocuments(await read(`deploy/${file}`)).map((one) => one.toJS())
    const service = manifests.find(({ kind }) => kind === 'Service')
    t.match(service.metadata.labels, monitor.spec.selector.matchLabels)
    t.equal(monitor.spec.endpoints[0].port, service.spec.ports[0].name)
    t.equal(service.metadata.name, job.job_name, 'the operator names the job after the Service')
    const { annotations } = manifests.find(({ kind }) => kind === 'Deployment').spec.template.metadata
    t.notOk(
      annotations?.['prometheus.io/scrape'],
      'annotations would scrape the pods a second time, as another job',
    )
  }
  const named = [...JSON.stringify([alerts, panels]).matchAll(/job=\\*"([^"\\]+)/g)].map(([, name]) => name)
  t.strictSame(new Set(named), new Set([job.job_name]))
})

t.test('every series of the gateway is in a panel or an alert', async (t) => {
  const queries = JSON.stringify([alerts, panels])
  for (const metric of (await metricsOf(t)).keys())
    if (metric.startsWith('gateway_')) t.match(queries, metric.replace(/_(bucket|sum|count)$/, '_'), metric)
})

t.test('every series exists from startup', async (t) => {
  const gateway = await startGateway(t)
  const exposition: string = (await gateway.call('GET', '/metrics')).body
  for (const line of [
    `gateway_build_info{version="${version}"} 1`,
    'gateway_platform_circuit_open{platform="sandbox"} 0',
    'gateway_platform_token_requests_total{platform="sandbox",outcome="failed"} 0',
    'gateway_upload_bytes_total{platform="sandbox"} 0',
    'gateway_orphaned_slots_total{platform="sandbox"} 0',
    'gateway_leftovers_removed_total{platform="sandbox"} 0',
    'gateway_videos{stage="processing"} 0',
    'gateway_uploads_in_progress 0',
    'gateway_poll_lag_seconds_count 0',
    'gateway_store_duration_seconds_count{operation="update",outcome="ok"} 0',
    'gateway_store_duration_seconds_count{operation="claimDue",outcome="failed"} 0',
    'gateway_store_connections{state="waiting"} 0',
    'gateway_store_connections_limit 0',
  ])
    t.ok(exposition.split('\n').includes(line), line)
})

const promtool = spawnSync('promtool', ['--version']).status === 0
const skip = promtool ? false : 'promtool is missing: apt-get install prometheus'
t.test('promtool accepts the rules and their tests', { skip }, async (t) => {
  const cwd = new URL('deploy/prometheus/', root)
  for (const args of [
    ['check', 'rules', 'alerts.yaml'],
    ['test', 'rules', 'alerts.test.yaml'],
    ['check', 'config', 'scrape.yaml'],
  ]) {
    const { status, stdout, stderr } = spawnSync('promtool', args, { cwd, encoding: 'utf8' })
    t.equal(status, 0, `${args.join(' ')}\n${stdout}${stderr}`)
  }
})

/** Every series of a gateway that has published a video, and its labels. */
async function metricsOf(t: Parameters<typeof startGateway>[0]): Promise<Map<string, Set<string>>> {
  const gateway = await startGateway(t)
  const { body } = await gateway.call('POST', '/v1/videos', { body: form({ title: 'One' }, sample) })
  await gateway.until(body.id, ({ status }) => status === 'ready')
  // What a healthy gateway never shows has its labels all the same.
  const observer = gateway.app.gateway.observer as Json
  observer.refreshed({ platform: 'sandbox', outcome: 'unchanged' })
  observer.credentials('sandbox', false)
  const exposition: string = (await gateway.call('GET', '/metrics')).body
  const known = new Map([['up', new Set(scraped)]])
  for (const [, metric, labels = ''] of exposition.matchAll(/^([a-z]\w*)(?:\{(.*)\})? \S+$/gim)) {
    const names = [...labels.matchAll(/(\w+)="(?:[^"\\]|\\.)*"/g)].map(([, name]) => name!)
    known.set(metric!, new Set([...(known.get(metric!) ?? scraped), ...names]))
  }
  return known
}

interface Query {
  selectors: { metric: string; labels: string[] }[]
  grouping: string[]
  /** The pieces that are no PromQL. */
  errors: string[]
}

/** What a query asks for, by Prometheus' own grammar; Grafana's interval is filled in, its variables are only strings. */
function analyse(expression: string): Query {
  const text = expression.replaceAll('$__rate_interval', '5m')
  const query: Query = { selectors: [], grouping: [], errors: [] }
  parser.parse(text).iterate({
    enter({ name, type, from, to, node }) {
      const here = text.slice(from, to)
      if (type.isError) query.errors.push(text.slice(Math.max(0, from - 10), to + 10))
      if (name === 'VectorSelector') query.selectors.push({ metric: '', labels: [] })
      if (name === 'Identifier' && node.parent?.name === 'VectorSelector')
        query.selectors.at(-1)!.metric = here
      if (name !== 'LabelName') return
      if (node.parent?.name === 'GroupingLabels') query.grouping.push(here)
      else query.selectors.at(-1)?.labels.push(here)
    },
  })
  return query
}
