import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { temporaryDirectory } from './gateway.ts'
import { freePort, listens } from './ports.ts'

/** Debian has servers where only root's PATH leads. */
const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` }

/** Why pgbouncer cannot be tested here, or false. */
export const missingPgbouncer: string | false =
  spawnSync('pgbouncer', ['--version'], { env }).status !== 0 && 'pgbouncer is not installed'

export interface Pgbouncer {
  port: number
  /** `kill -9`: every connection through it breaks. */
  kill(): Promise<void>
  start(): Promise<void>
}

/** Debian's pgbouncer in transaction mode, in front of the server at this port. */
export async function startPgbouncer(t: Test, serverPort: number, poolSize: number): Promise<Pgbouncer> {
  const directory = await temporaryDirectory(t)
  const port = await freePort()
  const file = join(directory, 'pgbouncer.ini')
  await writeFile(join(directory, 'users.txt'), '"postgres" "password"\n')
  await writeFile(
    file,
    `[databases]
     postgres = host=127.0.0.1 port=${serverPort}
     [pgbouncer]
     listen_addr = 127.0.0.1
     listen_port = ${port}
     unix_socket_dir =
     auth_type = scram-sha-256
     auth_file = ${directory}/users.txt
     pool_mode = transaction
     max_client_conn = 200
     default_pool_size = ${poolSize}`,
  )
  await chmod(directory, 0o755)
  let child: ChildProcess | undefined

  async function start(): Promise<void> {
    // It refuses to run as root.
    const user = process.getuid?.() === 0 ? ['-u', 'postgres'] : []
    const started = spawn('pgbouncer', [...user, file], { env, stdio: ['ignore', 'pipe', 'pipe'] })
    child = started
    let output = ''
    for (const stream of [started.stdout, started.stderr]) stream.on('data', (chunk) => (output += chunk))
    for (const deadline = Date.now() + 15_000; !(await listens(port)); await sleep(20))
      if (started.exitCode !== null || Date.now() > deadline)
        throw new Error(`pgbouncer does not start: ${output}`)
  }

  async function kill(): Promise<void> {
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
  }

  t.teardown(kill)
  await start()
  return { port, kill, start }
}
