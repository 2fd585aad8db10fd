import { spawnSync } from 'node:child_process'
import { mkdirSync, symlinkSync } from 'node:fs'
import { resolve } from 'node:path'
import t, { type Test } from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { schemaVersion } from '../../src/store/postgres/migrations.ts'
import { fakeMp4, temporaryDirectory } from '../support/gateway.ts'
import { type SharedPostgres, schemaOf, sharedPostgres } from '../support/postgres.ts'
import { type GatewayProcess, startProcess } from '../support/process.ts'

/** A rolling upgrade: the release before the last migration and this one, side by side on one schema. */
const started = await sharedPostgres()
const server = started as SharedPostgres
const skip = 'unavailable' in started && started.unavailable
t.teardown(() => server.close?.())

const migrations = 'src/store/postgres/migrations.ts'

/** Runs git in this repository. @returns undefined where there is no repository or not this commit */
function git(args: string[], cwd = process.cwd()): Buffer | undefined {
  const { status, stdout } = spawnSync('git', args, { cwd, maxBuffer: 2 ** 28 })
  return status === 0 ? stdout : undefined
}

/** The newest commits of each earlier version of the migrations, newest first. */
function earlierCommits(): string[] {
  const commits =
    git(['log', '--format=%H', '--first-parent', '--', migrations])?.toString().split('\n') ?? []
  return commits.filter(Boolean).slice(1, 12)
}

/** The sources of a commit, with the packages that are installed here. */
function checkOut(directory: string, commit: string): void {
  const archive = git(['archive', commit, 'src', 'package.json'])
  mkdirSync(directory)
  spawnSync('tar', ['-x', '-C', directory], { input: archive })
  symlinkSync(resolve('node_modules'), `${directory}/node_modules`)
}

/** A gateway of the newest release whose schema is older than that of this one. */
async function startEarlier(t: Test, env: Record<string, string>): Promise<GatewayProcess | undefined> {
  const directory = await temporaryDirectory(t)
  for (const commit of earlierCommits()) {
    const root = `${directory}/${commit}`
    checkOut(root, commit)
    const url = server.newUrl()
    const gateway = await startProcess(t, { ...env, DATABASE_URL: url }, `${root}/src/server.ts`).catch(
      () => undefined,
    )
    const { rows } = gateway
      ? await server.query(`SELECT version::int FROM ${schemaOf(url)}.schema_version`)
      : { rows: [] }
    await gateway?.kill('SIGTERM')
    if (rows[0]?.version < schemaVersion) return startProcess(t, env, `${root}/src/server.ts`)
  }
  return undefined
}

t.test('the release before the last migration keeps working next to this one', { skip }, async (t) => {
  const sandbox = await startSandbox({ knobs: { discard: true, processing_delay_ms: 10 } })
  t.teardown(() => sandbox.close())
  const url = server.newUrl()
  const env = { SANDBOX_BASE_URL: sandbox.url, DATABASE_URL: url }
  const earlier = await startEarlier(t, env)
  if (!earlier) return t.pass('there is no earlier release here', { skip: 'no history of the schema' })
  const published = async (name: string, one: GatewayProcess, two: GatewayProcess) => {
    const made = await one.call('POST', '/v1/videos', { title: 'x' }, { 'idempotency-key': name })
    t.equal(made.status, 201)
    const again = await two.call('POST', '/v1/videos', { title: 'x' }, { 'idempotency-key': name })
    const path = `/v1/videos/${made.body.id}`
    t.equal((await two.call('PUT', `${path}/content`, fakeMp4(2_000))).status, 204)
    for (let status = 'pending'; status === 'pending'; )
      status = (await one.call('GET', `${path}/status`)).body.status
    for (const gateway of [one, two]) {
      t.match(await gateway.call('GET', path), { status: 200, body: { status: 'ready' } })
      t.equal((await gateway.call('GET', `${path}/info`)).status, 200)
      t.ok(
        (await gateway.call('GET', '/v1/videos')).body.items.some(
          ({ id }: { id: string }) => id === made.body.id,
        ),
      )
    }
    t.match(again, { status: 201, body: { id: made.body.id } }, 'one key, one video')
    return path
  }
  const old = await earlier.call('POST', '/v1/videos', { title: 'made before the upgrade' })
  const [now, next] = [await startProcess(t, env), await startProcess(t, env)]
  const { rows } = await server.query(`SELECT version::int FROM ${schemaOf(url)}.schema_version`)
  t.equal(rows[0].version, schemaVersion)
  t.equal((await now.call('PUT', `/v1/videos/${old.body.id}/content`, fakeMp4(2_000))).status, 204)
  const paths = [
    await published('a', earlier, now),
    await published('b', now, earlier),
    await published('c', now, next),
  ]
  t.equal((await earlier.call('DELETE', paths[0] as string)).status, 204)
  t.equal((await now.call('GET', paths[0] as string)).status, 410)
  t.equal((await now.call('DELETE', paths[1] as string)).status, 204)
  t.equal((await earlier.call('GET', paths[1] as string)).status, 410)
  t.equal(await earlier.kill('SIGTERM'), 0)
  t.equal((await now.call('GET', paths[2] as string)).status, 200)
  t.equal(sandbox.stats().calls.create, 4)
  t.notMatch(earlier.output() + now.output(), /"level":(50|60)/, 'no error in either log')
})
