import { type ChildProcess, fork, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { generateSecret, hashSecret } from '../../src/auth/credentials.ts'
import { freePort } from '../../test/support/ports.ts'

/** A server of the bench: a process of its own on loopback. */
export interface Server {
  url: string
  pid: number
  /** Milliseconds from its start until it listened, to the millisecond. */
  startedIn: number
  stop(): Promise<void>
}

/** A server that answers messages of the bench. */
export interface Talker extends Server {
  ask<T>(message: object): Promise<T>
}

export type Env = Record<string, string>

/** The API key of every gateway that is started here. */
export const key = generateSecret('vgk_')

const running = new Set<ChildProcess>()
/** Databases and logs; gone with the bench. */
export const directory = mkdtempSync(join(tmpdir(), 'gateway-bench-'))
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL')
  rmSync(directory, { recursive: true, force: true })
})
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130))

let names = 0
/** Returns an unused path. */
export const freshPath = (name: string) => join(directory, `${++names}-${name}`)

/** Starts a file of `bench/processes`, which sends its URL when it listens. */
export async function startServer(name: string, env: Env = {}): Promise<Talker> {
  const started = performance.now()
  const child = forkProcess(name, env)
  const first = await Promise.race([once(child, 'message'), once(child, 'exit').then(() => undefined)])
  if (!first) throw new Error(`${name} did not start`)
  const { url } = first[0] as { url: string }
  return {
    url,
    ...handle(child, started),
    async ask<T>(message: object) {
      const answered = once(child, 'message')
      child.send(message)
      return (await answered)[0] as T
    },
  }
}

/** Starts a file of `bench/processes` and leaves the talking to the caller. */
export function forkProcess(name: string, env: Env = {}): ChildProcess {
  const file = new URL(`../processes/${name}.ts`, import.meta.url)
  return keep(fork(file, { env: { ...process.env, ...env }, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] }))
}

/** Starts the gateway as in production, `node src/server.ts`, its log in a file. */
export async function startGateway(platform: Server | { url: string }, env: Env = {}): Promise<Server> {
  const log = freshPath('gateway.log')
  const server = new URL('../../src/server.ts', import.meta.url).pathname
  const port = await freePort()
  const started = performance.now()
  const flags = process.env.BENCH_NODE_FLAGS?.split(' ').filter(Boolean) ?? []
  const child = keep(
    spawn(process.execPath, [...flags, server], {
      stdio: ['ignore', openSync(log, 'w'), 'inherit'],
      cwd: directory,
      env: {
        PATH: process.env.PATH,
        NODE_ENV: 'production',
        PORT: String(port),
        PLATFORM: 'sandbox',
        SANDBOX_BASE_URL: platform.url,
        DATABASE_URL: `sqlite:${freshPath('gateway.db')}`,
        API_KEYS: `bench:${hashSecret(key).toString('hex')}`,
        ...env,
      },
    }),
  )
  const deadline = started + 20_000
  while (!readFileSync(log, 'utf8').includes('listening at')) {
    if (child.exitCode !== null || performance.now() > deadline) throw new Error('the gateway did not start')
    await sleep(1)
  }
  return { url: `http://127.0.0.1:${port}`, ...handle(child, started) }
}

/** nginx as a streaming proxy to `target`, or undefined when it is not installed. */
export async function startNginx(target: string): Promise<Server | undefined> {
  const binary = ['nginx', '/usr/sbin/nginx'].find((path) => spawnSync(path, ['-v']).status === 0)
  if (!binary) return undefined
  const port = await freePort()
  const home = freshPath('nginx')
  mkdirSync(home)
  writeFileSync(`${home}/nginx.conf`, nginxConf(port, target))
  const started = performance.now()
  const child = keep(
    spawn(binary, ['-p', home, '-c', `${home}/nginx.conf`, '-e', `${home}/error.log`], { stdio: 'ignore' }),
  )
  const url = `http://127.0.0.1:${port}`
  while (!(await fetch(url, { method: 'HEAD' }).catch(() => undefined))) {
    if (child.exitCode !== null) return undefined
    await sleep(5)
  }
  return { url, ...handle(child, started) }
}

function nginxConf(port: number, target: string): string {
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  return `daemon off; master_process off; pid nginx.pid;
events {}
http {
  access_log off; client_max_body_size 0;
  ${paths.map((path) => `${path}_temp_path ${path};`).join(' ')}
  server {
    listen 127.0.0.1:${port};
    location / { proxy_pass ${target}; proxy_http_version 1.1; proxy_request_buffering off; }
  }
}`
}

function keep(child: ChildProcess): ChildProcess {
  running.add(child)
  child.once('exit', () => running.delete(child))
  return child
}

function handle(child: ChildProcess, started: number): Omit<Server, 'url'> {
  return {
    pid: child.pid as number,
    startedIn: performance.now() - started,
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill('SIGTERM')
      // The bench needs nothing more from a process that does not exit immediately.
      const timer = setTimeout(() => child.kill('SIGKILL'), 2_000)
      await once(child, 'exit')
      clearTimeout(timer)
    },
  }
}
