import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { fakeMp4, temporaryDirectory } from '../support/gateway.ts'
import { type GatewayProcess, startProcess } from '../support/process.ts'
import { beginPut } from '../support/raw.ts'

async function until(gateway: GatewayProcess, id: string, wanted: string) {
  // A process that is killed while it checks a video leaves a claim of a minute.
  for (const deadline = Date.now() + 90_000; Date.now() < deadline; await sleep(20)) {
    const { body } = await gateway.call('GET', `/v1/videos/${id}/status`)
    if (body.stage === wanted) return body
  }
  throw new Error(`never ${wanted}`)
}

async function setUp(t: Test, knobs: object = {}) {
  const sandbox = await startSandbox({ knobs: { discard: true, processing_delay_ms: 10, ...knobs } })
  t.teardown(() => sandbox.close())
  const env = {
    SANDBOX_BASE_URL: sandbox.url,
    DATABASE_URL: `sqlite:${await temporaryDirectory(t)}/gateway.db`,
  }
  return { sandbox, env }
}

/** Begins an upload of 100,000 bytes and waits until half of it is there. */
async function beginUpload(gateway: GatewayProcess, id: string) {
  const connection = await beginPut(gateway.url, id, 100_000)
  connection.write(fakeMp4(50_000))
  while ((await gateway.call('GET', `/v1/videos/${id}`)).body.upload.bytesReceived < 50_000) await sleep(10)
  return connection
}

t.test('a video in processing becomes ready after a kill and a restart', async (t) => {
  const { env } = await setUp(t, { processing_delay_ms: 400 })
  const first = await startProcess(t, env)
  const { body: video } = await first.call('POST', '/v1/videos', { title: 'x' })
  t.equal((await first.call('PUT', `/v1/videos/${video.id}/content`, fakeMp4(1000))).status, 204)
  t.equal(await first.kill('SIGKILL'), 'SIGKILL')
  const second = await startProcess(t, env)
  t.match(await until(second, video.id, 'ready'), { status: 'ready', error: null })
  t.match(await second.call('GET', `/v1/videos/${video.id}/info`), {
    status: 200,
    body: { width: 1280, height: 720 },
  })
})

t.test('after a kill during an upload the slot accepts a new upload', async (t) => {
  const { env } = await setUp(t)
  const first = await startProcess(t, env)
  const { body: video } = await first.call('POST', '/v1/videos', { title: 'x' })
  await beginUpload(first, video.id)
  await first.kill('SIGKILL')
  const second = await startProcess(t, env)
  t.match(await second.call('PUT', `/v1/videos/${video.id}/content`, fakeMp4(1000)), {
    status: 409,
    body: { code: 'upload-in-progress' },
  })
  await until(second, video.id, 'awaiting-upload')
  t.equal((await second.call('PUT', `/v1/videos/${video.id}/content`, fakeMp4(1000))).status, 204)
  await until(second, video.id, 'ready')
})

t.test('SIGTERM ends readiness, lets the upload finish and exits with 0', async (t) => {
  const { env } = await setUp(t)
  const gateway = await startProcess(t, env)
  const { body: video } = await gateway.call('POST', '/v1/videos', { title: 'x' })
  const connection = await beginUpload(gateway, video.id)
  const ended = gateway.kill('SIGTERM')
  for (let status = 200; status !== 503; await sleep(10))
    status = (await gateway.call('GET', '/health/ready')).status
  t.equal((await gateway.call('GET', '/health/live')).status, 200)
  t.match(await gateway.call('POST', '/v1/videos', { title: 'late' }), {
    status: 503,
    body: { code: 'shutting-down' },
  })
  connection.write(Buffer.alloc(50_000))
  t.match(await connection.rest(), /^HTTP\/1\.1 204 /)
  t.equal(await ended, 0)
})

t.test('SIGTERM aborts an upload that takes too long', async (t) => {
  const { env, sandbox } = await setUp(t)
  const gateway = await startProcess(t, { ...env, SHUTDOWN_TIMEOUT: '200ms' })
  const { body: video } = await gateway.call('POST', '/v1/videos', { title: 'x' })
  const connection = await beginUpload(gateway, video.id)
  t.equal(await gateway.kill('SIGTERM'), 0)
  t.match(await connection.rest(), /"code":"shutting-down"/)
  const next = await startProcess(t, env)
  t.match(await next.call('GET', `/v1/videos/${video.id}`), {
    body: { stage: 'awaiting-upload', upload: { bytesReceived: 0 } },
  })
  t.equal(sandbox.stats().open_uploads, 0)
})

t.test('an invalid environment is reported in one line', async (t) => {
  const db = { DATABASE_URL: 'memory:' }
  const able = { ...db, SANDBOX_BASE_URL: 'http://127.0.0.1:1' }
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => taken.close())
  const { port } = taken.address() as AddressInfo
  for (const [env, line] of [
    [{ ...db, PLATFORM: 'sandbox' }, 'SANDBOX_BASE_URL: is missing'],
    [{ ...db, PLATFORM: 'mux' }, 'MUX_TOKEN_ID: is missing; MUX_TOKEN_SECRET: is missing'],
    [{ ...db, PLATFORM: 'vhs' }, /PLATFORM: vhs is not one of .*sandbox/],
    [{ ...db, PLATFORM: '', NODE_ENV: 'production' }, 'PLATFORM: is missing'],
    [
      { ...db, SANDBOX_BASE_URL: 'http://127.0.0.1:1', NODE_ENV: 'production', API_KEYS: '' },
      /API_KEYS: is missing/,
    ],
    [{ ...db, SANDBOX_BASE_URL: 'http://127.0.0.1:1', POLL_FACTOR: 'fast' }, /POLL_FACTOR: expected number/],
    [
      { ...db, SANDBOX_BASE_URL: 'http://127.0.0.1:1', UPLOAD_MAX_BYTES: '5 apples' },
      /UPLOAD_MAX_BYTES: expected a size/,
    ],
    [
      { SANDBOX_BASE_URL: 'http://127.0.0.1:1', DATABASE_URL: 'sqlite:/etc/passwd/gateway.db' },
      /DATABASE_URL: cannot use/,
    ],
    [
      { ...able, OAUTH_SIGNING_KEY: '{}', POLL_FACTOR: 'fast' },
      /OAUTH_SIGNING_KEY: the signing key must be a JWK.*POLL_FACTOR|POLL_FACTOR.*OAUTH_SIGNING_KEY/,
    ],
    [
      { ...able, PLATFORM: 'mux', PLATFORMS: 'sandbox' },
      'PLATFORM: PLATFORMS is set as well; set one of them',
    ],
    [{ ...able, GATEWAY_SECRET: 'changeme' }, /GATEWAY_SECRET: secret 1 is too weak: .*npm run secret/],
    [{ ...able, PLATFORMS: ' ,', NODE_ENV: 'production' }, 'PLATFORMS: is empty: name at least one platform'],
    [{ ...able, PLATFORM: ' ' }, 'PLATFORM: is empty: name at least one platform'],
    [{ ...able, UPLOAD_IDLE_TIMEOUT: '25d' }, 'UPLOAD_IDLE_TIMEOUT: must be at most 24d'],
    [{ ...able, PUBLIC_URL: 'https://cms.example/?a' }, /PUBLIC_URL: expected a URL .* without \? and #/],
    [{ ...able, PUBLIC_URL: 'https://cms.example/#' }, /PUBLIC_URL: expected a URL/],
    [{ ...able, PUBLIC_URL: 'cms.example' }, /PUBLIC_URL: expected a URL that begins with http/],
    [{ ...db, SANDBOX_BASE_URL: '127.0.0.1:1' }, /SANDBOX_BASE_URL: expected a URL that begins with http/],
    [
      { ...able, DATABASE_URL: 'mysql://x' },
      'DATABASE_URL: expected memory:, sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE',
    ],
    [{ ...able, TRUSTED_PROXIES: 'proxy' }, /TRUSTED_PROXIES: expected IP addresses/],
    [
      { ...able, OAUTH_ISSUER: 'http://issuer.example', OAUTH_AUDIENCE: 'x' },
      /OAUTH_ISSUER: expected an https/,
    ],
    [{ ...able, PORT: String(port) }, `PORT: ${port} is in use`],
    [{ ...able, HOST: 'nowhere.invalid' }, 'HOST: cannot listen on nowhere.invalid'],
    [{ ...able, HOST: '192.0.2.1' }, 'HOST: cannot listen on 192.0.2.1'],
  ] as [Record<string, string>, string | RegExp][]) {
    const failure = await startProcess(t, env).then(
      () => 'it started',
      (error: Error) => error.message,
    )
    t.match(failure, /^ended with 1: video-gateway cannot start: [^\n]*\n$/)
    t.match(failure, line)
  }
})

t.test('a .env file is read, or the reason is printed', async (t) => {
  const cwd = await temporaryDirectory(t)
  const file = join(cwd, '.env')
  const start = (env: Record<string, string> = {}) =>
    spawnSync(process.execPath, [fileURLToPath(new URL('../../src/server.ts', import.meta.url))], {
      cwd,
      env: { NODE_ENV: 'production', ...env },
      encoding: 'utf8',
    }).stderr
  const said = (what: string) => `video-gateway cannot start: ${what}\n`
  const nobody = 'API_KEYS: is missing: set it, OAUTH_CLIENTS or OAUTH_ISSUER (npm run apikey makes a key)'
  t.equal(start(), said(`PLATFORM: is missing; ${nobody}`), 'there need not be one')
  await writeFile(file, '# ours\nPLATFORM=vhs\n')
  t.match(start(), /PLATFORM: vhs is not one of/)
  t.match(
    start({ PLATFORM: 'mux' }),
    said(`MUX_TOKEN_ID: is missing; MUX_TOKEN_SECRET: is missing; ${nobody}`),
    'the environment wins',
  )
  await rm(file)
  await mkdir(file)
  t.equal(start(), said('.env: cannot be read'))
})

t.test('without a platform and a key, a trial setup has both', async (t) => {
  const gateway = await startProcess(t, { PLATFORM: '', API_KEYS: '', DATABASE_URL: 'memory:' })
  t.match(gateway.output(), /embedded sandbox platform at http/)
  while (!/key works until the process ends: vgk_/.test(gateway.output())) await sleep(10)
  t.equal(await gateway.kill('SIGTERM'), 0)
})

t.test('a trial setup keeps no database, because its videos end with the sandbox', async (t) => {
  const cwd = await temporaryDirectory(t)
  const chdir = `data:text/javascript,process.chdir(${JSON.stringify(cwd)})`
  const server = fileURLToPath(new URL('../../src/server.ts', import.meta.url))
  const start = (env: Record<string, string>) =>
    startProcess(t, { PLATFORM: '', ...env }, '--import', chdir, server)
  for (const [env, said, kept] of [
    [{}, /the database is in memory too/, []],
    [{ DATABASE_URL: '' }, /the database is in memory too/, []],
    [
      { DATABASE_URL: 'sqlite:own.db' },
      /DATABASE_URL is configured: after a restart they turn `error`/,
      ['own.db'],
    ],
  ] as const) {
    const gateway = await start(env)
    t.equal((await gateway.call('POST', '/v1/videos', { title: 'x' })).status, 201)
    t.equal(await gateway.kill('SIGTERM'), 0)
    t.match(gateway.output(), said)
    t.strictSame(await readdir(cwd), kept)
  }
})

t.test('the gateway’s own variables do not reach the embedded sandbox', async (t) => {
  const gateway = await startProcess(t, {
    PLATFORM: '',
    DATABASE_URL: 'memory:',
    PUBLIC_URL: 'http://127.0.0.1:9/video',
    CLIENT_ID: 'of-the-gateway',
    CLIENT_SECRET: 'of-the-gateway',
  })
  const { status, body: video } = await gateway.call('POST', '/v1/videos', { title: 'x' })
  t.equal(status, 201)
  t.equal((await gateway.call('PUT', `/v1/videos/${video.id}/content`, fakeMp4(1000))).status, 204)
  t.equal(await gateway.kill('SIGTERM'), 0)
})

t.test('a signal before the gateway listens stops it with one line', async (t) => {
  for (const signal of ['SIGTERM', 'SIGINT']) {
    // Sends it as soon as there is a listener for it; the platform and the store are still being set up then.
    const early = `process.on('newListener', (name) => name === '${signal}' && setImmediate(() => process.kill(process.pid, name)))`
    const start = startProcess(
      t,
      { DATABASE_URL: 'memory:', SANDBOX_BASE_URL: 'http://127.0.0.1:9' },
      '--import',
      `data:text/javascript,${early}`,
      'src/server.ts',
    )
    await t.rejects(start, { message: /^ended with 0: stopped before the gateway was listening\n$/ }, signal)
  }
})
