import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { promisify } from 'node:util'
import t from 'tap'
import { startGateway, temporaryDirectory } from '../support/gateway.ts'

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

t.test('every npm script that the documents name is there', async (t) => {
  const named = pages.flatMap((page) => [...read(page).matchAll(/npm (?:run )([a-z-]+)/g)])
  t.ok(named.length > 5)
  for (const [command, name] of named) t.ok(name && name in scripts, command)
})

t.test('the backup of the operations guide, made beside a working gateway', async (t) => {
  const directory = await temporaryDirectory(t)
  const gateway = await startGateway(t, { env: { DATABASE_URL: `sqlite:${join(directory, 'gateway.db')}` } })
  const video = await gateway.create()
  const [, quoted = ''] = /docker exec video-gateway node -e "(.*)"\n/.exec(read('docs/operations.md')) ?? []
  const script = quoted.replaceAll('\\"', '"').replaceAll('/data/', `${directory}/`)
  t.match(script, 'VACUUM INTO')
  await run(process.execPath, ['-e', script])
  const backup = new DatabaseSync(join(directory, 'backup.db'))
  t.strictSame({ ...backup.prepare('SELECT id FROM videos').get() }, { id: video.id })
  backup.close()
})

t.test('the sandbox platform by itself, as its README starts it', async (t) => {
  const [, command = ''] = /^ {4}node (sandbox\/main\.ts) 4000/m.exec(read('sandbox/README.md')) ?? []
  const child = spawn(process.execPath, [command, '0'], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  const [line] = (await once(child.stdout, 'data')) as [Buffer]
  const url = /sandbox platform on (\S+)/.exec(String(line))?.[1]
  t.equal((await fetch(`${url}/clips`)).status, 401, 'it asks for a token')
})

t.test('one table of the bench, and its figures for machines', async (t) => {
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
