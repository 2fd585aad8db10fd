import { createHash, randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import { type App, type AppOptions, buildApp } from '../../src/app.ts'
import { hashSecret } from '../../src/auth/credentials.ts'
import { type Config, loadConfig } from '../../src/config/config.ts'
import type { Policy } from '../../src/publication/gateway.ts'
import { checkAgainstDocument } from './document.ts'
import { makeMp4, removeMade } from './media.ts'
import { yieldingStore } from './yielding-store.ts'

export const key = 'vgk_test'

// biome-ignore lint/suspicious/noExplicitAny: tests check bodies of any type
export type Json = any
export type Body = NonNullable<RequestInit['body']>

export interface TestResponse {
  status: number
  headers: Headers
  body: Json
}

export interface TestGateway {
  url: string
  app: App
  /** What it opened: over PostgreSQL not what the variables say. */
  databaseUrl: string
  sandbox: Sandbox
  /** Calls the API with the test's key, unless the headers say otherwise. The answer must fit the document. */
  call(
    method: string,
    path: string,
    options?: { headers?: Record<string, string>; json?: unknown; body?: Body; duplex?: 'half' },
  ): Promise<TestResponse>
  create(fields?: object): Promise<Json>
  put(id: string, body: Body, headers?: Record<string, string>): Promise<TestResponse>
  /** Polls the status until `done`, ten seconds at most. */
  until(id: string, done: (status: Json) => boolean): Promise<Json>
  close(): Promise<void>
}

/** Fast enough for tests; everything else as in production. */
const quick = {
  DATABASE_URL: 'memory:',
  PORT: '0',
  POLL_INITIAL_DELAY: '30ms',
  POLL_MAX_DELAY: '200ms',
  API_KEYS: `test:${hashSecret(key).toString('hex')}`,
  PLATFORM: 'sandbox',
}

/** Whole suites are run over a store that is far away: see `far-store.test.ts`. */
const distantStore: AppOptions =
  process.env.STORE === 'far' ? { wrapStore: (store) => yieldingStore(store) } : {}

/**
 * Whole suites are run over PostgreSQL: see `postgres-suites.test.ts`. `POSTGRES_URL` has no schema; each database of a
 * test gets its own, and who names the same file gets the same.
 */
function overPostgres(url: string): string {
  const server = process.env.POSTGRES_URL
  if (!server) return url
  const name = url === 'memory:' ? randomUUID() : url
  return `${server}&schema=s${createHash('sha256').update(name).digest('hex').slice(0, 12)}`
}

/** The built app, listening, in front of a real sandbox platform. Both are closed at the end of the test. */
export async function startGateway(
  t: Test,
  {
    env = {},
    policy = {},
    platforms = [],
    sandbox,
    ...options
  }: {
    env?: Record<string, string>
    /** What no variable sets. */
    policy?: Partial<Policy>
    /** Platforms in addition to the sandbox. */
    platforms?: Config['platforms']
    sandbox?: Sandbox
  } & AppOptions = {},
): Promise<TestGateway> {
  const platform = sandbox ?? (await startSandbox({ knobs: { processing_delay_ms: 10 } }))
  const config = loadConfig({
    ...quick,
    SANDBOX_BASE_URL: platform.url,
    // One of the two names the platforms.
    ...(env.PLATFORMS && { PLATFORM: '' }),
    ...env,
  })
  config.databaseUrl = overPostgres(config.databaseUrl)
  Object.assign(config.policy, policy)
  config.platforms.push(...platforms)
  const app = await buildApp(config, { ...distantStore, ...options })
  const url = await app.server.listen({ port: config.port })

  const call: TestGateway['call'] = async (method, path, { headers, json, ...init } = {}) => {
    const response = await fetch(url + path, {
      method,
      ...init,
      ...(json !== undefined && { body: JSON.stringify(json) }),
      headers: {
        authorization: `Bearer ${key}`,
        ...(json !== undefined && { 'content-type': 'application/json' }),
        ...headers,
      },
    } as RequestInit)
    const text = await response.text()
    const isJson = /json/.test(response.headers.get('content-type') ?? '')
    const answer = {
      status: response.status,
      headers: response.headers,
      body: isJson ? JSON.parse(text) : text,
    }
    checkAgainstDocument(method, path, answer)
    return answer
  }

  let closed = false
  const gateway: TestGateway = {
    url,
    app,
    databaseUrl: config.databaseUrl,
    sandbox: platform,
    call,
    async create(fields = {}) {
      const { status, body } = await call('POST', '/v1/videos', {
        json: { title: 'Evening news', ...fields },
      })
      if (status !== 201) throw new Error(`creation answered ${status}: ${JSON.stringify(body)}`)
      return body
    },
    put: (id, body, headers) =>
      call('PUT', `/v1/videos/${id}/content`, {
        body,
        duplex: 'half',
        headers: { 'content-type': 'video/mp4', ...headers },
      }),
    async until(id, done) {
      for (const deadline = Date.now() + 10_000; ; await sleep(10)) {
        const { body } = await call('GET', `/v1/videos/${id}/status`)
        if (done(body)) return body
        if (Date.now() > deadline) throw new Error(`still ${JSON.stringify(body)}`)
      }
    },
    async close() {
      if (closed) return
      closed = true
      await app.shutdown()
    },
  }
  t.teardown(async () => {
    await gateway.close()
    if (!sandbox) await platform.close()
  })
  return gateway
}

/** A directory that goes away with the test. */
export async function temporaryDirectory(t: Test): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'gateway-'))
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  return directory
}

/** Paths of real mp4 files of every kind that matters. */
export async function makeFiles(t: Test) {
  const directory = await temporaryDirectory(t)
  t.teardown(removeMade)
  const file = (name: string, options: Omit<Parameters<typeof makeMp4>[0], 'path'>) =>
    makeMp4({ ...options, path: join(directory, `${name}.mp4`) })
  const base = { width: 320, height: 180, seconds: 1 }
  return {
    faststart: await file('faststart', { ...base, layout: 'faststart' }),
    moovAtEnd: await file('moov-at-end', { ...base, layout: 'moov-at-end' }),
    fragmented: await file('fragmented', { ...base, layout: 'fragmented' }),
    portrait: await file('portrait', { width: 180, height: 320, seconds: 1, layout: 'faststart' }),
    audioOnly: await file('audio-only', { ...base, layout: 'faststart', video: false }),
  }
}

/** How many clips the platform holds. */
export function clipsOn({ sandbox }: TestGateway): number {
  return Object.values(sandbox.stats().clips).reduce((sum, count) => sum + count, 0)
}

/** Bytes that the gateway accepts as an MP4, and no player does. */
export function fakeMp4(length: number): Buffer {
  const file = Buffer.alloc(length, 0x5a)
  file.write('\0\0\0\x18ftypisom', 0, 'latin1')
  return file
}

/** A form with these fields and then the file. */
export function form(fields: Record<string, string>, file: Uint8Array, type = 'video/mp4'): FormData {
  const data = new FormData()
  for (const [name, value] of Object.entries(fields)) data.append(name, value)
  data.append('file', new Blob([file as Uint8Array<ArrayBuffer>], { type }), 'video.mp4')
  return data
}
