import { execFile, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { promisify } from 'node:util'
import t from 'tap'
import { parse } from 'yaml'
import { type Json, startGateway, temporaryDirectory } from '../support/gateway.ts'

const run = promisify(execFile)
const read = (path: string) => readFileSync(path, 'utf8')
const { scripts } = JSON.parse(read('package.json'))
const pages = [
  'CONTRIBUTING.md',
  'SECURITY.md',
  'docs/operations.md',
  'docs/performance.md',
  'docs/reliability.md',
]

t.test('every npm script in the documents exists', async (t) => {
  const named = pages.flatMap((page) => [...read(page).matchAll(/npm (?:run )([a-z-]+)/g)])
  t.ok(named.length > 5)
  for (const [command, name] of named) t.ok(name && name in scripts, command)
})

t.test('the backup commands of the operations guide work twice on a running gateway', async (t) => {
  const directory = await temporaryDirectory(t)
  const gateway = await startGateway(t, { env: { DATABASE_URL: `sqlite:${join(directory, 'gateway.db')}` } })
  const guide = read('docs/operations.md')
  const [, service = '', inContainer = ''] =
    /^ {4}docker compose exec -T (\w+) (node -e .*)$/m.exec(guide) ?? []
  const { services } = parse(read('compose.yaml'))
  t.strictSame(services[service].volumes, ['data:/data'], 'the service is that of compose.yaml')
  const [onHost = ''] = /sqlite3 [^`]*/.exec(guide) ?? []
  for (const [command, tool] of [
    [inContainer, 'node'],
    [onHost, 'sqlite3'],
  ] as const) {
    if (spawnSync(tool, ['--version']).status !== 0) {
      t.pass(`skipped: apt-get install ${tool}`)
      continue
    }
    for (const round of ['first', 'second']) {
      const { id } = await gateway.create({ title: round })
      await run('sh', ['-c', command.replaceAll('/data/', `${directory}/`)])
      const backup = new DatabaseSync(join(directory, 'backup.db'), { readOnly: true })
      const { found } = backup.prepare('SELECT count(*) AS found FROM videos WHERE id = ?').get(id) as Json
      t.equal(found, 1, `${tool}, ${round}: the newest video is in it`)
      t.match(backup.prepare('PRAGMA integrity_check').get(), { integrity_check: 'ok' })
      backup.close()
    }
  }
})

t.test('the sandbox starts alone with the command of its README', async (t) => {
  const [, command = ''] = /^ {4}node (sandbox\/main\.ts) 4000/m.exec(read('sandbox/README.md')) ?? []
  const child = spawn(process.execPath, [command, '0'], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  const [line] = (await once(child.stdout, 'data')) as [Buffer]
  const url = /sandbox platform on (\S+)/.exec(String(line))?.[1]
  t.equal((await fetch(`${url}/clips`)).status, 401, 'it asks for a token')
})

t.test('the bench prints a table, and writes its figures as JSON', async (t) => {
  const file = join(await temporaryDirectory(t), 'bench.json')
  const { stdout } = await run(process.execPath, ['bench/main.ts', 'start', '--quick', '--json', file])
  t.match(stdout, /^\| gateway +\|/m)
  t.match(stdout, /^- (reached|MISSED): start to listening ≤ 400 ms; measured \d+/m)
  t.match(JSON.parse(read(file)), {
    machine: /Node 26/,
    tables: [{ title: /^Start/, verdicts: [{ goal: /400 ms/ }] }],
  })
  const [, names = ''] = /some tables: ([a-z ]+)/.exec(read('docs/performance.md')) ?? []
  const wrong = await run(process.execPath, ['bench/main.ts', 'no-such-table']).catch(({ stderr }) => stderr)
  t.match(String(wrong), `[${names.split(' ').join('|')} …]`, 'the tables that the document names')
})
