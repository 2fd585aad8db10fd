import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmod, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { clipsOn, fakeMp4, startGateway, temporaryDirectory } from '../support/gateway.ts'
import { type SharedPostgres, sharedPostgres } from '../support/postgres.ts'

const started = await sharedPostgres()
const server = started as SharedPostgres
const installed = spawnSync('pgbouncer', ['--version']).status === 0
const skip =
  'unavailable' in started ? started.unavailable : !installed && 'pgbouncer is not installed: apt install it'
if (skip) console.error(`# skipped: ${skip}`)
t.teardown(() => server.close?.())

/** Debian's pgbouncer in transaction mode: every statement may meet another connection. */
async function startPgbouncer(t: Test) {
  const directory = await temporaryDirectory(t)
  await chmod(directory, 0o755)
  const port = await freePort()
  const file = join(directory, 'pgbouncer.ini')
  await writeFile(
    file,
    `[databases]
    postgres = host=127.0.0.1 port=${server.port} dbname=postgres user=postgres password=password
    [pgbouncer]
    listen_addr = 127.0.0.1
    listen_port = ${port}
    unix_socket_dir =
    auth_type = any
    pool_mode = transaction
    default_pool_size = 3
    max_client_conn = 200
    query_wait_timeout = 2
    `,
  )
  // It does not run as root.
  const asUser = process.getuid?.() === 0 ? ['-u', 'postgres'] : []
  async function start() {
    const child = spawn('pgbouncer', ['-q', ...asUser, file], { stdio: 'ignore' })
    const ended = once(child, 'exit')
    for (let tries = 0; !(await accepts(port)); tries++, await sleep(20))
      if (tries === 500 || child.exitCode !== null) throw new Error('pgbouncer does not start')
    return async () => {
      child.kill('SIGKILL')
      await ended
    }
  }
  let end = await start()
  t.teardown(() => end())
  return {
    url: server.newUrl('&prepare=false').replace(`:${server.port}/`, `:${port}/`),
    async restart(pauseMs: number) {
      await end()
      await sleep(pauseMs)
      end = await start()
    },
  }
}

t.test('two gateways behind pgbouncer in transaction mode', { skip }, async (t) => {
  const { url, restart } = await startPgbouncer(t)
  const sandbox = await startSandbox({ knobs: { processing_delay_ms: 10, discard: true } })
  t.teardown(() => sandbox.close())
  const start = () => startGateway(t, { sandbox, env: { DATABASE_URL: url, DATABASE_POOL: '20' } })
  // Both migrate the empty schema.
  const gateways = await Promise.all([start(), start()])
  const of = (index: number) => gateways[index % 2] as (typeof gateways)[number]

  await t.test('lives of videos, all at the same time', async (t) => {
    const lives = Array.from({ length: 30 }, async (_, index) => {
      const { id } = await of(index).create({ title: `${index}` })
      const put = await of(index + 1).put(id, fakeMp4(100_000))
      const { status } = await of(index).until(id, ({ status }) => status !== 'pending')
      const removed = index % 3 ? 0 : (await of(index).call('DELETE', `/v1/videos/${id}`)).status
      return [put.status, status, removed]
    })
    const expected = Array.from({ length: 30 }, (_, index) => [204, 'ready', index % 3 ? 0 : 204])
    t.strictSame(await Promise.all(lives), expected)
    for (const deadline = Date.now() + 10_000; clipsOn(of(0)) > 20 && Date.now() < deadline; ) await sleep(20)
    t.equal(clipsOn(of(0)), 20)
    t.equal((await of(1).call('GET', '/v1/videos?limit=100')).body.items.length, 20)
  })

  await t.test('it is killed and comes back', async (t) => {
    const { id } = await of(0).create()
    const away = restart(500)
    const answers = new Set<number>()
    for (let over = false; !over; await sleep(10)) {
      const { status } = await of(1).call('GET', `/v1/videos/${id}`)
      answers.add(status)
      over = await Promise.race([away.then(() => true), sleep(1, false)])
    }
    t.ok(
      [...answers].every((status) => status === 200 || status === 503),
      JSON.stringify([...answers]),
    )
    for (const gateway of gateways)
      for (let tries = 0; (await gateway.call('GET', `/v1/videos/${id}`)).status !== 200; tries++) {
        if (tries > 500) throw new Error('it does not come back')
        await sleep(20)
      }
    t.equal((await of(1).put(id, fakeMp4(1_000))).status, 204)
  })

  await t.test('without prepare=false, the start says what to do', async (t) => {
    const failed = startGateway(t, { sandbox, env: { DATABASE_URL: url.replace('&prepare=false', '') } })
    await t.rejects(failed, { message: /prepare=false/ })
  })
})

async function accepts(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as { port: number }
  probe.close()
  return port
}
