import { spawnSync } from 'node:child_process'
import { existsSync, globSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import { variables } from '../../src/config/config.ts'
import { problems } from '../../src/errors.ts'
import { platformDefinitions } from '../../src/platform/registry.ts'

const read = (path: string) => readFileSync(path, 'utf8')
const check = (script: string) => {
  const { status, stderr } = spawnSync(process.execPath, [script, '--check'], { encoding: 'utf8' })
  return { status, stderr }
}

t.test('every error code is in the integration guide, with its status', async (t) => {
  const rows = [...read('docs/integration.md').matchAll(/^\| (\d{3}) `([a-z-]+)` \| .+ \| .+ \|$/gm)]
  const listed = rows.map(([, status, code]) => `${status} ${code}`).sort()
  const known = Object.entries(problems).map(([code, { status }]) => `${status} ${code}`)
  t.strictSame(listed, known.sort())
})

t.test('every code of a failed video is in the integration guide', async (t) => {
  const sources = readdirSync('src/publication').map((name) => read(join('src/publication', name)))
  const codes = sources.flatMap((source) =>
    [...source.matchAll(/(?:failed\(\s*|error = \{ code: )'([a-z-]+)'/g)].map(([, code]) => code as string),
  )
  t.ok(codes.length >= 5, 'the search finds them')
  const guide = read('docs/integration.md')
  for (const code of codes) t.match(guide, `| \`${code}\` | `)
})

t.test('the configuration page matches the schemas', async (t) => {
  t.strictSame(check('scripts/configuration.ts'), { status: 0, stderr: '' })
  const table = read('docs/configuration.md')
  const schemas = [variables, ...platformDefinitions.map((definition) => definition.variables)]
  for (const name of schemas.flatMap(({ properties }) => Object.keys(properties))) {
    t.match(table, `| \`${name}\` | `)
  }
})

t.test('every platform has its columns and its section, with its variables', async (t) => {
  const page = read('docs/platforms.md')
  for (const { name, variables } of platformDefinitions) {
    t.equal(
      page.match(new RegExp(`^\\| \\|.* \`${name}\` \\|`, 'gm'))?.length,
      2,
      `${name}: a column in both tables`,
    )
    const [, section = ''] = page.split(`\n## ${name}\n`)
    for (const variable of Object.keys(variables.properties))
      t.match(section.split('\n## ')[0], `| \`${variable}\` | `)
  }
})

t.test('the generated part of the client matches the OpenAPI document', async (t) => {
  t.strictSame(check('scripts/client.ts'), { status: 0, stderr: '' })
})

t.test('every guarantee names tests that exist', async (t) => {
  const rows = read('docs/reliability.md').match(/^\| (?!guarantee|---).+\|$/gm) ?? []
  t.ok(rows.length >= 20, 'the search finds them')
  for (const row of rows) {
    const tests = [...row.matchAll(/`([\w/*.-]+\.test\.ts)`/g)].map(([, path]) => path as string)
    t.ok(tests.length > 0, row)
    for (const path of tests) t.ok(globSync(join('test', path)).length > 0, path)
  }
})

t.test('links lead to files, and to headings in them', async (t) => {
  for (const file of [
    'README.md',
    'client/README.md',
    'docs/integration.md',
    'docs/configuration.md',
    'docs/identity-providers.md',
    'docs/platforms.md',
    'docs/operations.md',
    'docs/runbook.md',
    'docs/metrics.md',
    'docs/reliability.md',
    'docs/performance.md',
    'docs/dependencies.md',
    'ARCHITECTURE.md',
    'CONTRIBUTING.md',
    'SECURITY.md',
  ]) {
    for (const [, target = ''] of read(file).matchAll(/\]\((?!https?:)([^)]+)\)/g)) {
      const [path = '', heading] = target.split('#')
      const found = path === '' ? file : join(dirname(file), path)
      t.ok(existsSync(found), `${file}: ${target}`)
      if (heading && existsSync(found))
        t.match(read(found).toLowerCase(), new RegExp(`^#+ ${heading.replaceAll('-', ' ')}$`, 'm'))
    }
  }
})

t.test('every panel and log line that the guides name exists', async (t) => {
  const titles = [...read('deploy/grafana/dashboard.json').matchAll(/"title": "([^"]+)"/g)].map(
    ([, title]) => title,
  )
  const runbook = read('docs/runbook.md').replaceAll(/\s+/g, ' ')
  const panels = [...runbook.matchAll(/\*([A-Z][^*]+)\*(?!\*)/g)].map(([, name = '']) => name)
  t.ok(panels.length > 8, 'the search finds them')
  for (const panel of panels) t.ok(titles.includes(panel), panel)

  const source = globSync('src/**/*.ts').map(read).join()
  const lines = ['docs/operations.md', 'docs/runbook.md', 'docs/identity-providers.md'].flatMap((file) => {
    const text = read(file).replaceAll(/\s+/g, ' ')
    return [...text.matchAll(/(?:log lines?|log for|The log has|once per minute|logs) `([a-z][^`…]+)`/gi)]
  })
  t.ok(lines.length > 8, 'the search finds them')
  for (const [, line = ''] of lines) t.ok(source.includes(line), line)
})
