import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Test } from 'tap'
import { hashSecret } from '../../src/auth/credentials.ts'
import { type Json, key } from './gateway.ts'

export interface GatewayProcess {
  url: string
  child: ChildProcess
  /** Everything it wrote so far. */
  output(): string
  call(
    method: string,
    path: string,
    body?: object | Uint8Array,
    headers?: Record<string, string>,
  ): Promise<{ status: number; headers: Headers; body: Json }>
  /** Sends the signal and waits for the end. @returns the exit code, or the signal that ended it */
  kill(signal: NodeJS.Signals): Promise<number | NodeJS.Signals>
}

/** Sends authorized requests to the server at this URL. */
export function callTo(url: string): GatewayProcess['call'] {
  return async (method, path, body, headers) => {
    const binary = body instanceof Uint8Array
    const response = await fetch(url + path, {
      method,
      ...(body && { body: (binary ? body : JSON.stringify(body)) as never }),
      headers: {
        authorization: `Bearer ${key}`,
        ...(body && { 'content-type': binary ? 'video/mp4' : 'application/json' }),
        ...headers,
      },
    })
    const text = await response.text()
    return {
      status: response.status,
      headers: response.headers,
      body: text.startsWith('{') ? JSON.parse(text) : text,
    }
  }
}

/** Starts the gateway as a process, `node src/server.ts` or with other arguments, and waits until it listens (or ends: then it throws its output). */
export async function startProcess(
  t: Test,
  env: Record<string, string>,
  ...args: string[]
): Promise<GatewayProcess> {
  // Without what tap would load into it: the process is to be the one that operators run.
  const child = spawn(
    'env',
    ['-u', 'NODE_OPTIONS', process.execPath, ...(args.length ? args : ['src/server.ts'])],
    {
      env: {
        PATH: process.env.PATH,
        PORT: '0',
        PLATFORM: 'sandbox',
        API_KEYS: `test:${hashSecret(key).toString('hex')}`,
        POLL_INITIAL_DELAY: '50ms',
        POLL_MAX_DELAY: '200ms',
        ...env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  )
  t.teardown(() => child.kill('SIGKILL'))
  let output = ''
  const listening = Promise.withResolvers<string>()
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      output += chunk
      const url = /listening at (http:[^"\s]+)/.exec(output)?.[1]
      if (url) listening.resolve(url)
    })
  }
  child.once('close', (code) => listening.reject(new Error(`ended with ${code}: ${output}`)))
  const url = await listening.promise

  return {
    url,
    child,
    output: () => output,
    call: callTo(url),
    async kill(signal) {
      const ended = once(child, 'close')
      child.kill(signal)
      const [code, by] = await ended
      return code ?? by
    },
  }
}
