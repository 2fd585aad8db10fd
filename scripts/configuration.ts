/**
 * Writes the reference pages docs/configuration.md, from the schemas of the variables, and docs/metrics.md, from the
 * metrics themselves; with `--check` it only checks whether they are up to date.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { type TObject, type TSchema, TypeGuard } from '@sinclair/typebox'
import { variables } from '../src/config/config.ts'
import { createMetrics } from '../src/observability/metrics.ts'
import { platformDefinitions } from '../src/platform/registry.ts'
import { openStore } from '../src/store/open.ts'

const names = platformDefinitions.map(({ name }) => `\`${name}\``).join(', ')
const configuration = `# Configuration

<!-- Written by npm run configuration from src/config/config.ts and the platforms' adapters: change it there. -->

All of it comes from the environment, or from a file \`.env\` in the working directory; the environment wins. A
variable that is empty counts as not set. If variables are missing or invalid, the gateway names all of them in one line
and refuses to start. It never prints a secret. [SIGHUP](operations.md#change-keys-and-credentials-without-a-restart) reads the
file again.

- **Durations** are written \`500ms\`, \`2s\`, \`5m\` or \`12h\`, \`24d\` at most (retentions \`3650d\`), **sizes** \`1048576\`, \`500MiB\` or \`64GiB\`.
- **\`NODE_ENV=production\`** makes a platform and a way for callers to identify themselves (\`API_KEYS\`,
  \`OAUTH_CLIENTS\` or \`OAUTH_ISSUER\`) necessary, and \`GATEWAY_SECRET\` with \`OAUTH_CLIENTS\`; without it there are no webhooks.
  Otherwise a gateway without a platform publishes on the embedded
  sandbox, and one without callers prints a key that holds until it ends.
- **A key and its entry** come from \`npm run apikey -- NAME [scopes]\`, in the same form for \`OAUTH_CLIENTS\`.
- **Platforms** by name: ${names}.
  What each can do is in [platforms.md](platforms.md).

## Gateway

${table(variables)}

## Platforms

Needed only for a platform that \`PLATFORM\` or \`PLATFORMS\` names. Every platform has its base URL here, so that it can
be pointed at a test double.

${platformDefinitions.map((platform) => `### ${platform.name}\n\n${table(platform.variables)}`).join('\n\n')}
`

const store = await openStore('memory:', 1)
const metrics = createMetrics({
  store,
  uploadsInProgress: () => 0,
  streamsOpen: () => 0,
  platforms: [],
}).describe()
await store.close()

const metricsPage = `# Metrics

<!-- Written by npm run configuration from src/observability/metrics.ts and gauges.ts: change it there. -->

\`GET /metrics\` has these, and those of the Node process (\`process_…\`, \`nodejs_…\`). Each process counts for itself.
[\`deploy/prometheus/\`](../deploy/prometheus) and [\`deploy/grafana/\`](../deploy/grafana) have the scrape job, the alerts
and the dashboard; the [runbook](runbook.md) has an entry for each alert.

| metric | type | labels | meaning |
| --- | --- | --- | --- |
${metrics.map(metricRow).join('\n')}
`

for (const [name, page] of Object.entries({ 'configuration.md': configuration, 'metrics.md': metricsPage })) {
  const file = new URL(`../docs/${name}`, import.meta.url)
  if (!process.argv.includes('--check')) writeFileSync(file, page)
  else if (readFileSync(file, 'utf8') !== page) {
    console.error(`docs/${name} is out of date: run npm run configuration`)
    process.exitCode = 1
  }
}

function metricRow({ name, type, labels, help }: (typeof metrics)[number]): string {
  return `| \`${name}\` | ${type} | ${labels.map((label) => `\`${label}\``).join(', ')} | ${help} |`
}

function table({ properties }: TObject): string {
  const rows = Object.entries(properties).map(
    ([name, schema]) => `| \`${name}\` | ${defaultValue(schema)} | ${meaning(schema)} |`,
  )
  return ['| variable | default | meaning |', '| --- | --- | --- |', ...rows].join('\n')
}

function defaultValue(schema: TSchema): string {
  if (schema.default !== undefined && schema.default !== '') return `\`${schema.default}\``
  return schema.default === '' || TypeGuard.IsOptional(schema) ? '–' : '**required**'
}

function meaning({ description = '', minimum, maximum, anyOf }: TSchema): string {
  const choices: string[] = (anyOf ?? []).map((literal: { const: unknown }) => `\`${literal.const}\``)
  const choice = choices.filter((text) => !description.includes(text)).join(', ')
  const bounds = [
    ...(minimum === undefined ? [] : [`at least ${minimum}`]),
    ...(maximum === undefined ? [] : [`at most ${maximum}`]),
  ].join(', ')
  const limits = choice || bounds
  return (description + (limits && ` (${limits})`)).replaceAll('|', '\\|')
}
