/**
 * Publishes one mp4 end to end through the gateway's public API, with the sandbox as the platform, and stays up:
 * `npm run demo [-- FILE.mp4] [--exit]`. With `--exit` it ends after the publication, 0 when the video is ready.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createReadStream, statSync } from 'node:fs'
import { basename } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import cliProgress from 'cli-progress'
import { startEmbeddedSandbox } from '../sandbox/embedded.ts'
import { generateSecret, hashSecret } from '../src/auth/credentials.ts'

const { values, positionals } = parseArgs({
  options: { exit: { type: 'boolean', default: false } },
  allowPositionals: true,
})
const file = positionals[0] ?? fileURLToPath(new URL('../sandbox/sample.mp4', import.meta.url))
const key = generateSecret('vgk_')
let gateway: ChildProcess | undefined

try {
  const { size } = statSync(file)
  const sandbox = await startEmbeddedSandbox()
  console.log(`Sandbox platform  ${sandbox.url}`)
  const url = await startGateway(sandbox.env)
  console.log(`Gateway           ${url}\n`)

  const ready = await publish(url, size)
  if (values.exit) end(ready ? 0 : 1)
  console.log(`\nSwagger UI        ${url}/docs\nAPI key           ${key}\n\nCtrl-C ends it.`)
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

/** The five steps of a publication, as a back office does them. @returns whether the video became ready */
async function publish(url: string, size: number): Promise<boolean> {
  const video = await api(
    url,
    'POST',
    '/v1/videos',
    JSON.stringify({ title: basename(file), reference: 'demo' }),
  )
  console.log(`Slot provisioned  ${video.id} (on the platform: ${video.platform.videoId})`)

  await upload(video.upload.url, size)

  let status = { status: 'pending', stage: '', error: null as null | { code: string; message: string } }
  while (status.status === 'pending') {
    const next = await api(url, 'GET', `/v1/videos/${video.id}/status`)
    if (next.stage !== status.stage) console.log(`Status            ${next.status} (${next.stage})`)
    status = next
    if (status.status === 'pending') await sleep(200)
  }
  if (status.status === 'error') {
    console.log(`Error             ${status.error?.code}: ${status.error?.message}`)
    return false
  }

  const info = await api(url, 'GET', `/v1/videos/${video.id}/info`)
  const thumbnail = await api(url, 'GET', `/v1/videos/${video.id}/thumbnail`)
  console.log(`Launch URL        ${info.launchUrl}`)
  console.log(`Size              ${info.width} × ${info.height} pixels, ${info.duration} s`)
  console.log(`Thumbnail         ${thumbnail.url} (${thumbnail.width} × ${thumbnail.height})`)
  return true
}

async function upload(url: string, size: number): Promise<void> {
  const bar = new cliProgress.SingleBar({
    format: 'Upload            {bar} {percentage}% of {total} bytes',
    noTTYOutput: true,
    stream: process.stdout,
    notTTYSchedule: 60_000,
  })
  bar.start(size, 0)
  const body = createReadStream(file).on('data', (chunk) => bar.increment(chunk.length))
  const response = await fetch(url, {
    method: 'PUT',
    body: body as never,
    duplex: 'half',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'video/mp4' },
  } as RequestInit)
  bar.stop()
  if (!response.ok)
    throw new Error(`the upload was refused: ${((await response.json()) as { detail: string }).detail}`)
}

// biome-ignore lint/suspicious/noExplicitAny: the demo prints what comes
async function api(url: string, method: string, path: string, body?: string): Promise<any> {
  const response = await fetch(url + path, {
    method,
    ...(body && { body }),
    headers: { authorization: `Bearer ${key}`, ...(body && { 'content-type': 'application/json' }) },
  })
  const answer = (await response.json()) as { detail: string }
  if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${answer.detail}`)
  return answer
}

function end(code: number): never {
  gateway?.kill()
  process.exit(code)
}
