import { spawnSync } from 'node:child_process'
import { mkdir } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { startGateway, temporaryDirectory } from '../support/gateway.ts'
import { startProcess } from '../support/process.ts'

/** Runs as another process: opening the database file in this one would release the locks that SQLite has on it. */
function shell(command: string, directory: string): string {
  const { status, stdout, stderr } = spawnSync('sh', ['-ec', command], { cwd: directory, encoding: 'utf8' })
  if (status !== 0) throw new Error(`${command}: ${stderr}`)
  return stdout
}

const sqlite = (file: string, sql: string) =>
  `${process.execPath} -e "const d = new (require('node:sqlite').DatabaseSync)('${file}'); d.exec(\\"${sql}\\"); d.close()"`

/** A backup as docs/operations.md makes it, then one more video. */
const backup = `rm -f backup.db; ${sqlite('data/gateway.db', "VACUUM INTO 'backup.db'")}`
const gone = /database file was deleted or moved/
const replaced = /database file was replaced/
const overwritten = /database file was overwritten/

interface Case {
  what: string
  before?: string
  /** Run in the directory above `data`, where the database is. */
  strike: string
  /** The reason that readiness reports. */
  reason: RegExp
  /** Takes it back, after which everything works again. */
  undo?: string
}

const faults: Case[] = [
  { what: 'deleted', strike: 'rm data/gateway.db', reason: gone },
  { what: 'deleted with its log', strike: 'rm data/gateway.db*', reason: gone },
  { what: 'deleted with its directory', strike: 'rm -r data', reason: gone },
  { what: 'moved', strike: 'mv data/gateway.db x', reason: gone, undo: 'mv x data/gateway.db' },
  { what: 'in a renamed directory', strike: 'mv data other', reason: gone, undo: 'mv other data' },
  {
    what: 'under another file system',
    strike: 'mv data other; mkdir data; touch data/gateway.db',
    reason: replaced,
    undo: 'rm -r data; mv other data',
  },
  {
    what: 'replaced by an empty file',
    strike: 'rm data/gateway.db; touch data/gateway.db',
    reason: replaced,
  },
  {
    what: 'replaced by a backup (mv)',
    before: backup,
    strike: 'mv backup.db data/gateway.db',
    reason: replaced,
  },
  {
    what: 'overwritten by a backup (cp)',
    before: backup,
    strike: 'cp backup.db data/gateway.db',
    reason: overwritten,
  },
  { what: 'overwritten by something else', strike: 'seq 100000 > data/gateway.db', reason: overwritten },
  { what: 'truncated to nothing', strike: 'truncate -s 0 data/gateway.db', reason: overwritten },
  { what: 'truncated to one page', strike: 'truncate -s 4096 data/gateway.db', reason: overwritten },
  {
    what: 'without its log',
    strike: 'mv data/gateway.db-wal x',
    reason: /write-ahead log of the database was deleted/,
    undo: 'mv x data/gateway.db-wal',
  },
  {
    what: 'without its shared memory',
    strike: 'rm data/gateway.db-shm',
    reason: /shared memory of the database was deleted/,
  },
  {
    what: 'another one by the symbolic link',
    before: 'mv data real; mkdir other; touch other/gateway.db; ln -s real data',
    strike: 'ln -sfn other data',
    reason: replaced,
    undo: 'ln -sfn real data',
  },
]

for (const { what, before, strike, reason, undo } of faults) {
  t.test(`the database is ${what}: writes fail with 503, and readiness reports the reason`, async (t) => {
    const directory = await temporaryDirectory(t)
    await mkdir(`${directory}/data`)
    const first = await startGateway(t, { env: { DATABASE_URL: `sqlite:${directory}/data/gateway.db` } })
    await first.create()
    if (before) shell(before, directory)
    let gateway = first
    if (before?.includes('ln -s')) {
      await first.close()
      gateway = await startGateway(t, { env: { DATABASE_URL: `sqlite:${directory}/data/gateway.db` } })
    }
    const video = await gateway.create()
    shell(strike, directory)
    // The shared memory holds locks, which reads take too.
    const content = () => shell('find . -type f ! -name "*-shm" | sort | xargs -r sha256sum', directory)
    const files = content()
    t.match(await gateway.call('POST', '/v1/videos', { json: { title: 'x' } }), {
      status: 503,
      body: { code: 'store-unavailable' },
    })
    t.match(await gateway.call('DELETE', `/v1/videos/${video.id}`), {
      status: 503,
      body: { code: 'store-unavailable' },
    })
    t.match(await gateway.call('GET', '/health/ready'), { status: 503, body: { reason } })
    t.equal((await gateway.call('GET', '/health/live')).status, 200)
    t.equal(content(), files, 'nothing was written')
    t.equal(gateway.sandbox.stats().calls.create, gateway === first ? 2 : 1, 'nor was the platform asked')
    if (undo) {
      shell(undo, directory)
      t.equal((await gateway.call('GET', '/health/ready')).status, 200, 'it comes back')
      const later = await gateway.create()
      t.equal((await gateway.call('GET', `/v1/videos/${later.id}`)).status, 200)
    }
    await gateway.close()
    if (!undo && reason === replaced) t.equal(content(), files, 'nor at the end of the process')
  })
}

const harmless = {
  'vacuumed by another process': sqlite('data/gateway.db', 'VACUUM'),
  'checkpointed by another process': sqlite('data/gateway.db', 'PRAGMA wal_checkpoint(TRUNCATE)'),
  'backed up': backup,
  'made read-only': 'chmod 444 data/gateway.db*; chmod 555 data',
}

t.test('usual maintenance of a database in use does no harm', async (t) => {
  const directory = await temporaryDirectory(t)
  await mkdir(`${directory}/data`)
  t.teardown(() => shell('chmod 755 data; chmod 644 data/*', directory))
  const gateway = await startGateway(t, { env: { DATABASE_URL: `sqlite:${directory}/data/gateway.db` } })
  for (const [what, command] of Object.entries(harmless)) {
    await gateway.create()
    shell(command, directory)
    await gateway.create()
    t.equal((await gateway.call('GET', '/health/ready')).status, 200, what)
    shell(sqlite('data/gateway.db', 'SELECT 1'), directory)
    t.match(shell('ls data', directory), 'gateway.db-wal', `${what}: the locks are still held`)
  }
  t.equal((await gateway.call('GET', '/v1/videos')).body.items.length, 8)
})

t.test('a database that was deleted is logged once, without any request', async (t) => {
  const sandbox = await startSandbox()
  t.teardown(() => sandbox.close())
  const directory = await temporaryDirectory(t)
  const gateway = await startProcess(t, {
    SANDBOX_BASE_URL: sandbox.url,
    DATABASE_URL: `sqlite:${directory}/gateway.db`,
  })
  const lines = (pattern: RegExp) =>
    gateway
      .output()
      .split('\n')
      .filter((line) => pattern.test(line))
  shell('mv gateway.db away', directory)
  while (lines(/the database is unavailable/).length === 0) await sleep(50)
  t.match(JSON.parse(lines(/the database is unavailable/)[0] ?? ''), { level: 50, reason: gone })
  for (let call = 0; call < 3; call++) await gateway.call('POST', '/v1/videos', { title: 'x' })
  await sleep(1_500)
  t.equal(lines(/the database is unavailable/).length, 1)
  shell('mv away gateway.db', directory)
  while (lines(/the database is available again/).length === 0) await sleep(50)
  t.equal((await gateway.call('POST', '/v1/videos', { title: 'x' })).status, 201)
  t.equal(await gateway.kill('SIGTERM'), 0)
})
