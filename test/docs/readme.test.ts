import { execFile, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'

const run = promisify(execFile)
const readme = readFileSync('README.md', 'utf8')
const { scripts } = JSON.parse(readFileSync('package.json', 'utf8'))
/** Nothing of a developer's own configuration, nor of the test runner. */
const env = { PATH: process.env.PATH, HOME: process.env.HOME, npm_config_loglevel: 'error', PLATFORM: '' }

/** The commands of a shell block, without comments. */
function commandsAfter(marker: string): string[] {
  const [, block = ''] = /```sh\n(.*?)```/s.exec(readme.slice(readme.indexOf(marker))) ?? []
  return block
    .split('\n')
    .map((line) => line.replace(/(^|\s+)# .*|\s{2,}# .*/, '').trim())
    .filter(Boolean)
}

/** `npm start` as the README has it, but on a free port and with its state in memory. */
async function npmStart(t: Test): Promise<{ url: string; key: string }> {
  const child = spawn('npm', ['start'], {
    env: {
      ...env,
      PORT: '0',
      DATABASE_URL: 'memory:',
      API_KEYS: '',
      OAUTH_CLIENTS: '',
      POLL_INITIAL_DELAY: '100ms',
    },
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
  })
  // npm and what it started.
  t.teardown(async () => {
    const ended = once(child, 'close')
    process.kill(-(child.pid as number), 'SIGTERM')
    await ended
  })
  let output = ''
  child.stdout.on('data', (chunk) => {
    output += chunk
  })
  for (;;) {
    if (child.exitCode !== null) throw new Error(`npm start ended: ${output}`)
    const url = /listening at (http:[^"\s]+)/.exec(output)?.[1]
    const key = /(vgk_\S+)/.exec(output)?.[1]
    if (url && key) return { url, key }
    await sleep(20)
  }
}

t.test('every npm script in the README exists', async (t) => {
  const named = [...readme.matchAll(/npm (?:run )?([a-z-]+)/g)].map(([, name]) => name as string)
  t.ok(named.length > 8)
  for (const name of named) t.ok(name === 'ci' || name in scripts, `npm run ${name}`)
  t.strictSame(commandsAfter('## Try it'), ['npm ci && npm run demo', 'npm ci && npm test'])
})

t.test('the README has at most 100 lines', async (t) => {
  t.ok(readme.trimEnd().split('\n').length <= 100)
})

t.test('npm run demo -- FILE.mp4 --exit publishes that file', async (t) => {
  const { stdout } = await run('npm', ['run', 'demo', '--', 'sandbox/sample.mp4', '--exit'], { env })
  t.match(stdout, /100% of 262674 bytes[\s\S]*Status +ready[\s\S]*Launch URL +http\S+\n/)
  t.match(stdout, /Size +640 × 360 pixels, 5 s\nThumbnail +http/)
  const failed = await run('npm', ['run', 'demo', '--', 'README.md', '--exit'], { env }).catch(
    (error) => error,
  )
  t.equal(failed.code, 1)
  t.match(failed.stderr, /The demo failed: The file is not an MP4/)
})

t.test('npm run apikey -- NAME [scopes] prints a key and its entry', async (t) => {
  const { stdout } = await run('npm', ['run', 'apikey', '--', 'NAME', 'videos:read'], { env })
  t.match(stdout, /vgk_\S+\n.*API_KEYS=NAME:[0-9a-f]{64}:videos:read/)
})

const noCurl = spawnSync('curl', ['--version']).status !== 0 && 'apt-get install curl'
t.test('every curl command of the walk-through works', { skip: noCurl }, async (t) => {
  const { url, key } = await npmStart(t)
  const commands = commandsAfter('<!-- walk-through -->')
  let setting = ''
  let id = ''
  const done: string[] = []
  for (const command of commands) {
    if (/^[A-Z]+=/.test(command)) {
      setting += `${command
        .replace(/URL=\S+/, `URL=${url}`)
        .replace(/KEY=\S+/, `KEY=${key}`)
        .replace('ID=…', `ID=${id}`)}\n`
      continue
    }
    const shell = `${setting}${command} -w '\\n%{http_code}'`
    let answer = await inShell(shell)
    for (
      ;
      answer.body.includes('"status":"pending"') && command.includes('/status');
      answer = await inShell(shell)
    )
      await sleep(100)
    t.match(answer.status, /^20[014]$/, command)
    id ||= JSON.parse(answer.body || '{}').id ?? ''
    done.push(`${/-X DELETE/.exec(command)?.[0] ?? ''}${/\/v1\S*/.exec(command)?.[0]}`)
    if (command.endsWith('/info')) t.match(JSON.parse(answer.body), { width: 640, height: 360 })
  }
  const own = '/v1/videos/$ID'
  const calls = [
    '/v1/videos',
    `${own}/content`,
    '/v1/videos',
    `${own}/status`,
    `${own}/info`,
    `${own}/thumbnail`,
  ]
  t.strictSame(done, [...calls, `-X DELETE${own}`])

  const publish = ['run', 'publish-video', '--', 'sandbox/sample.mp4', '--title', 'TITLE']
  const { stdout } = await run('npm', publish, { env: { ...env, GATEWAY_URL: url, GATEWAY_API_KEY: key } })
  t.match(stdout, /Status +ready/)
})

async function inShell(script: string): Promise<{ body: string; status: string }> {
  const { stdout } = await run('bash', ['-c', script], { env })
  const at = stdout.lastIndexOf('\n')
  return { body: stdout.slice(0, at).trim(), status: stdout.slice(at + 1) }
}
