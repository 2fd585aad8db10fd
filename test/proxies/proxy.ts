import { execFile, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import { freePort, listens } from '../support/ports.ts'

const run = promisify(execFile)
const modules = '/usr/lib/apache2/modules'

/** Where a proxy of a test listens, where its gateway does, and a folder for what it writes. */
interface Place {
  port: number
  gateway: string
  directory: string
}

/** A reverse proxy that Debian packages, with its configuration in `deploy/proxy/`. */
export interface ProxyKind {
  name: string
  command: string
  file: string
  /** The documented configuration, with the addresses and files of the test. */
  adapt(configuration: string, place: Place): string
  /** @param file the adapted configuration */
  args(file: string, place: Place): string[]
  /** The time in seconds for which it waits for a response, if it has a limit. */
  timeout?: RegExp
  /** What the distribution's own configuration would bring. */
  main?(file: string, place: Place): string
}

const nginx: ProxyKind = {
  name: 'nginx',
  command: 'nginx',
  file: 'nginx.conf',
  timeout: /proxy_read_timeout (\d+)s;/,
  adapt: (text, { port, directory }) =>
    replace(text, [
      ['listen 443', `listen 127.0.0.1:${port}`],
      ['/etc/ssl/gateway', directory],
    ]),
  main: (file, { directory }) => `
      daemon off; pid ${directory}/nginx.pid; error_log ${directory}/error.log;
      events {}
      http {
        access_log off;
        client_body_temp_path ${directory}/body; proxy_temp_path ${directory}/proxy;
        fastcgi_temp_path ${directory}/fastcgi; uwsgi_temp_path ${directory}/uwsgi; scgi_temp_path ${directory}/scgi;
        include ${file};
      }`,
  args: (file) => ['-c', file],
}

/** As nginx does it by default, and as many have it. */
const nginxWithHttp10: ProxyKind = {
  ...nginx,
  name: 'nginx with HTTP/1.0 to the gateway',
  adapt: (text, place) =>
    replace(nginx.adapt(text, place), [
      ['proxy_http_version 1.1;', ''],
      ['proxy_set_header Connection "";', ''],
      ['keepalive 32;', ''],
    ]),
}

export const proxies: ProxyKind[] = [
  nginx,
  nginxWithHttp10,
  {
    name: 'haproxy',
    command: 'haproxy',
    file: 'haproxy.cfg',
    timeout: /timeout server (\d+)s/,
    adapt: (text, { port, directory }) =>
      replace(text, [
        ['bind :443', `bind 127.0.0.1:${port}`],
        ['/etc/ssl/gateway', directory],
      ]),
    args: (file) => ['-db', '-f', file],
  },
  {
    name: 'caddy',
    command: 'caddy',
    file: 'Caddyfile',
    adapt: (text, { port, directory }) =>
      replace(text, [
        [
          'gateway.example.com {',
          `https://127.0.0.1:${port} {\ntls ${directory}/fullchain.pem ${directory}/key.pem`,
        ],
      ]),
    main: (file) => `{\nadmin off\nauto_https disable_redirects\n}\nimport ${file}\n`,
    args: (file) => ['run', '--adapter', 'caddyfile', '--config', file],
  },
  {
    name: 'apache',
    command: 'apache2',
    file: 'apache.conf',
    timeout: /ProxyTimeout (\d+)/,
    adapt: (text, { port, directory }) =>
      replace(text, [
        ['<VirtualHost *:443>', `<VirtualHost 127.0.0.1:${port}>`],
        ['/etc/ssl/gateway', directory],
      ]),
    main: (file, { port, directory }) => `
      ServerRoot ${directory}
      ServerName localhost
      PidFile ${directory}/apache.pid
      DefaultRuntimeDir ${directory}
      ErrorLog ${directory}/error.log
      ${['mpm_event', 'authz_core', 'ssl', 'http2', 'proxy', 'proxy_http', 'reqtimeout']
        .map((name) => `LoadModule ${name}_module ${modules}/mod_${name}.so`)
        .join('\n')}
      Listen 127.0.0.1:${port}
      Include ${file}`,
    args: (file) => ['-X', '-f', file],
  },
]

/** Why this proxy cannot be tested here, or false. */
export function missing({ command }: ProxyKind): string | false {
  const needed = [command, 'curl', 'openssl']
  const lacking = needed.find((name) => spawnSync(name, ['--version'], { env: searchPath }).error)
  return lacking ? `${lacking} is not installed` : false
}

/** Debian has servers where only root's PATH leads. */
const searchPath = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` }

/** Starts the proxy in front of the gateway, with a certificate of its own. @returns its URL */
export async function startProxy(
  t: Test,
  kind: ProxyKind,
  gatewayUrl: string,
  directory: string,
): Promise<string> {
  const place = { port: await freePort(), gateway: new URL(gatewayUrl).host, directory }
  await makeCertificate(directory)
  const text = await readFile(`deploy/proxy/${kind.file}`, 'utf8')
  const documented = replace(kind.adapt(text, place), [['127.0.0.1:3000', place.gateway]])
  const included = join(directory, 'documented.conf')
  const main = join(directory, 'main.conf')
  await writeFile(included, documented)
  await writeFile(main, kind.main?.(included, place) ?? documented)
  const env = { ...searchPath, HOME: directory, XDG_DATA_HOME: directory, XDG_CONFIG_HOME: directory }
  const child = spawn(kind.command, kind.args(main, place), {
    env,
    cwd: directory,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk))
  const closed = once(child, 'close')
  t.teardown(async () => {
    child.kill('SIGTERM')
    const timer = setTimeout(() => child.kill('SIGKILL'), 2_000)
    await closed
    clearTimeout(timer)
  })
  for (const deadline = Date.now() + 15_000; !(await listens(place.port)); await sleep(50)) {
    if (child.exitCode !== null || Date.now() > deadline)
      throw new Error(`${kind.name} does not start: ${output}`)
  }
  return `https://127.0.0.1:${place.port}`
}

/** Each text must be there: what is tested is what is documented, but for these. */
function replace(text: string, pairs: [string, string][]): string {
  for (const [from, to] of pairs) {
    if (!text.includes(from)) throw new Error(`the configuration lacks: ${from}`)
    text = text.replaceAll(from, to)
  }
  return text
}

async function makeCertificate(directory: string): Promise<void> {
  const [key, certificate] = ['key.pem', 'fullchain.pem'].map((name) => join(directory, name)) as [
    string,
    string,
  ]
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1']
  const algorithm = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1']
  await run('openssl', ['req', '-x509', ...algorithm, ...subject, '-keyout', key, '-out', certificate])
  const both = (await readFile(certificate, 'utf8')) + (await readFile(key, 'utf8'))
  await writeFile(join(directory, 'fullchain-and-key.pem'), both)
}
