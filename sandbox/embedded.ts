import { fork } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'

export interface EmbeddedSandbox {
  url: string
  /** The variables that point the gateway at it; empty ones have their defaults. */
  env: Record<string, string>
  /** Makes the sandbox send webhooks to a gateway with these variables. @param gateway its origin */
  notify(gateway: string): Promise<void>
  stop(): void
}

/** Starts the sandbox platform as a child process; it ends with this process at the latest. */
export async function startEmbeddedSandbox(): Promise<EmbeddedSandbox> {
  const child = fork(new URL('./main.ts', import.meta.url), {
    // Clean: the gateway's `PUBLIC_URL` and `PORT` are not the sandbox's.
    env: {
      PATH: process.env.PATH,
      TMPDIR: process.env.TMPDIR,
      PORT: '0',
      HOST: '127.0.0.1',
      LENGTH_REQUIRED: process.env.SANDBOX_LENGTH_REQUIRED,
    },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  const stop = () => void child.kill()
  process.once('exit', stop)
  const started = await Promise.race([once(child, 'message'), once(child, 'exit').then(() => undefined)])
  if (!started) throw new Error('the sandbox platform did not start')
  const { url } = started[0] as { url: string }
  child.unref()
  child.channel?.unref()
  const secret = randomBytes(24).toString('base64url')
  const notify = async (gateway: string) => {
    const webhook = { url: `${gateway}/v1/platforms/sandbox/webhook`, secret }
    const headers = { 'content-type': 'application/json' }
    await fetch(`${url}/_knobs`, { method: 'PUT', headers, body: JSON.stringify({ webhook }) })
  }
  const env = {
    PLATFORM: 'sandbox',
    SANDBOX_BASE_URL: url,
    SANDBOX_CLIENT_ID: '',
    SANDBOX_CLIENT_SECRET: '',
    SANDBOX_WEBHOOK_SECRET: secret,
  }
  return { url, env, notify, stop }
}
