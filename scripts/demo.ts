/**
 * Publishes one MP4 end to end through the gateway's public API, with the sandbox as the platform, and stays up:
 * `npm run demo [-- FILE.mp4] [--exit]`. With `--exit` it ends after the publication, 0 when the video is ready.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { VideoGateway } from '../client/src/index.ts'
import { startEmbeddedSandbox } from '../sandbox/embedded.ts'
import { generateSecret, hashSecret } from '../src/auth/credentials.ts'
import { publishFile, say } from './publication.ts'

const { values, positionals } = parseArgs({
  options: { exit: { type: 'boolean', default: false } },
  allowPositionals: true,
})
const file = positionals[0] ?? fileURLToPath(new URL('../sandbox/sample.mp4', import.meta.url))
const key = generateSecret('vgk_')
let gateway: ChildProcess | undefined

try {
  const sandbox = await startEmbeddedSandbox()
  say('Sandbox platform', sandbox.url)
  const url = await startGateway(sandbox.env)
  await sandbox.notify(url)
  say('Gateway', `${url}\n`)

  const publication = { title: basename(file), reference: 'demo' }
  await publishFile(new VideoGateway({ url, token: key }), file, publication)
  if (values.exit) end(0)
  console.log()
  say('Swagger UI', `${url}/docs`)
  say('API key', `${key}\n\nCtrl-C ends it.`)
  process.once('SIGINT', () => end(0))
  process.once('SIGTERM', () => end(0))
} catch (error) {
  console.error(`The demo failed: ${(error as Error).message}`)
  end(1)
}

/** The gateway as a process of its own, on a free port, with its state in memory. */
async function startGateway(env: Record<string, string>): Promise<string> {
  const child = spawn(process.execPath, [fileURLToPath(new URL('../src/server.ts', import.meta.url))], {
    env: {
      ...process.env,
      ...env,
      // The real configuration must have no effect.
      PLATFORMS: '',
      PUBLIC_URL: '',
      HOST: '127.0.0.1',
      PORT: process.env.PORT ?? '0',
      DATABASE_URL: 'memory:',
      LOG_LEVEL: 'info',
      POLL_INITIAL_DELAY: '500ms',
      API_KEYS: `demo:${hashSecret(key).toString('hex')}`,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  gateway = child
  return new Promise((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`the gateway ended with ${code}`)))
    let output = ''
    child.stdout.on('data', (chunk) => {
      output = (output + chunk).slice(-4096)
      const url = /listening at (http:[^"\s]+)/.exec(output)?.[1]
      if (url) resolve(url)
    })
  })
}

function end(code: number): never {
  gateway?.kill()
  process.exit(code)
}
