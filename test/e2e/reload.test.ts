import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { hashSecret } from '../../src/auth/credentials.ts'
import { generateGatewaySecret } from '../../src/auth/gateway-secret.ts'
import { openStream } from '../support/event-stream.ts'
import { fakeMp4, type Json, temporaryDirectory } from '../support/gateway.ts'
import { startProcess } from '../support/process.ts'
import { beginPut } from '../support/raw.ts'

const entry = (name: string, secret: string) => `${name}:${hashSecret(secret).toString('hex')}`
const server = fileURLToPath(new URL('../../src/server.ts', import.meta.url))
const bearer = (key: string) => ({ authorization: `Bearer ${key}` })

/** A gateway in production with a file `.env` in its working directory. */
async function setUp(t: Test, file: Record<string, string> = {}) {
  const cwd = await temporaryDirectory(t)
  const path = join(cwd, '.env')
  const sandbox = await startSandbox({ knobs: { discard: true } })
  t.teardown(() => sandbox.close())
  const variables = {
    PUBLIC_URL: 'http://127.0.0.1',
    PLATFORM: 'sandbox',
    SANDBOX_BASE_URL: sandbox.url,
    API_KEYS: entry('cms', 'vgk_test'),
    DATABASE_URL: 'sqlite:gateway.db',
    ...file,
  }
  const write = (changed: Record<string, string>) =>
    writeFile(
      path,
      Object.entries({ ...variables, ...changed })
        .map(([name, value]) => `${name}=${value}\n`)
        .join(''),
    )
  await write({})
  const chdir = `data:text/javascript,process.chdir(${JSON.stringify(cwd)})`
  // Nothing but the file has them.
  const none = { API_KEYS: undefined, PLATFORM: undefined } as unknown as Record<string, string>
  const gateway = await startProcess(t, { ...none, NODE_ENV: 'production' }, '--import', chdir, server)

  /** Sends SIGHUP. @returns what the gateway logged about it, without pino's own fields */
  async function hangUp(): Promise<Json[]> {
    const before = gateway.output().length
    gateway.child.kill('SIGHUP')
    for (const deadline = Date.now() + 20_000; ; await sleep(10)) {
      const said = gateway.output().slice(before)
      if (/"the configuration (was read again|is unchanged)"\}\n/.test(said))
        return said
          .split('\n')
          .filter((line) => /"variables":|"the configuration /.test(line))
          .map((line) => JSON.parse(line))
      if (Date.now() > deadline) throw new Error(`nothing about SIGHUP: ${said}`)
    }
  }

  async function metric(name: string) {
    const { body } = await gateway.call('GET', '/metrics')
    return new RegExp(`^${name}\\{platform="sandbox"\\} (\\S+)$`, 'm').exec(body)?.[1]
  }

  const statusWith = async (key: string) =>
    (await gateway.call('GET', '/v1/videos', undefined, bearer(key))).status
  return { cwd, path, sandbox, gateway, write, hangUp, metric, statusWith }
}

t.test('API keys change without a restart', async (t) => {
  const { gateway, write, hangUp, statusWith } = await setUp(t)
  t.match(await hangUp(), [{ level: 30, variables: [] }], 'an equal file changes nothing')
  t.strictSame([await statusWith('vgk_test'), await statusWith('vgk_next')], [200, 401])

  await write({ API_KEYS: `${entry('cms', 'vgk_test')},${entry('cms-2', 'vgk_next')}` })
  t.match(await hangUp(), [{ level: 30, variables: ['API_KEYS'], msg: 'the configuration was read again' }])
  t.strictSame([await statusWith('vgk_test'), await statusWith('vgk_next')], [200, 200], 'both, for the move')

  await write({ API_KEYS: entry('cms-2', 'vgk_next') })
  await hangUp()
  t.strictSame([await statusWith('vgk_test'), await statusWith('vgk_next')], [401, 200])

  await write({ API_KEYS: `${entry('cms-2', 'vgk_next')}:videos:write` })
  await hangUp()
  t.equal(await statusWith('vgk_next'), 403, 'scopes too')
  t.equal(await gateway.kill('SIGTERM'), 0)
})

t.test('streams end when keys change, and continue with keys that are still valid', async (t) => {
  const { gateway, write, hangUp } = await setUp(t, {
    API_KEYS: ['cms:vgk_test', 'page:vgk_page', 'gone:vgk_gone', 'less:vgk_less']
      .map((pair) => entry(...(pair.split(':') as [string, string])))
      .join(),
  })
  const open = (key: string, headers = {}) => openStream(t, gateway.url, '', { ...bearer(key), ...headers })
  const streams = await Promise.all(['vgk_page', 'vgk_gone', 'vgk_less'].map((key) => open(key)))
  t.strictSame(
    streams.map(({ status }) => status),
    [200, 200, 200],
  )
  await hangUp()
  await gateway.call('POST', '/v1/videos', { title: 'one' })
  const [one] = await Promise.all(streams.map(({ until }) => until(({ event }) => event === 'video.created')))
  await write({ API_KEYS: `${entry('page', 'vgk_page')},${entry('less', 'vgk_less')}:videos:write` })
  await hangUp()
  await Promise.all(streams.map(({ ended }) => ended))
  await gateway.call('POST', '/v1/videos', { title: 'two' }, bearer('vgk_less'))
  const resumed = { 'last-event-id': one?.id ?? '' }
  const next = await open('vgk_page', resumed)
  t.match(await next.until(({ event }) => event === 'video.created'), { data: { data: { title: 'two' } } })
  t.equal((await open('vgk_gone', resumed)).status, 401)
  t.equal((await open('vgk_less', resumed)).status, 403)
  next.close()
  t.equal(await gateway.kill('SIGTERM'), 0)
})

t.test('clients can replace the only key in one reload', async (t) => {
  const { gateway, write, hangUp, statusWith } = await setUp(t, { GATEWAY_SECRET: generateGatewaySecret() })
  const tokenOf = async (secret: string) => {
    const response = await fetch(`${gateway.url}/oauth2/token`, {
      method: 'POST',
      headers: { authorization: `Basic ${btoa(`cms:${secret}`)}` },
      body: new URLSearchParams({ grant_type: 'client_credentials' }),
    })
    return ((await response.json()) as Json).access_token
  }
  t.equal(await tokenOf('secret'), undefined)
  const waysToAuthorize = async () =>
    Object.keys((await gateway.call('GET', '/docs/json')).body.components.securitySchemes)
  t.notOk((await waysToAuthorize()).includes('oauth2'))
  await write({ API_KEYS: '', OAUTH_CLIENTS: entry('cms', 'secret') })
  const [line] = await hangUp()
  t.strictSame(line.variables.toSorted(), ['API_KEYS', 'OAUTH_CLIENTS'])
  t.ok((await waysToAuthorize()).includes('oauth2'), 'the page shows it')
  const token = await tokenOf('secret')
  t.strictSame([await statusWith('vgk_test'), await statusWith(token)], [401, 200])
  await write({ API_KEYS: '', OAUTH_CLIENTS: entry('cms', 'other') })
  await hangUp()
  t.equal(await tokenOf('secret'), undefined)
  t.equal(await statusWith(await tokenOf('other')), 200)
  t.equal(await statusWith(token), 200, 'a token lasts as long as it says')
  t.equal(await gateway.kill('SIGTERM'), 0)
})

t.test('an invalid group of variables stays as it was, the others change', async (t) => {
  const { path, gateway, write, hangUp, statusWith } = await setUp(t)
  const one = entry('cms', 'vgk_test')
  for (const [file, rejected, changed] of [
    [{ API_KEYS: 'cms:short' }, { API_KEYS: /^API_KEYS: entry 1 \(cms\): expected NAME:SHA256/ }, []],
    [{ API_KEYS: '' }, { API_KEYS: /^API_KEYS: is missing: set it, OAUTH_CLIENTS/ }, []],
    [{ SANDBOX_BASE_URL: 'nowhere' }, { SANDBOX_BASE_URL: /^SANDBOX_BASE_URL: expected a URL/ }, []],
    [
      { API_KEYS: `${one},cms:short`, SANDBOX_CLIENT_ID: 'new' },
      { API_KEYS: /^API_KEYS: / },
      ['SANDBOX_CLIENT_ID'],
    ],
    [{ OAUTH_CLIENTS: one }, { OAUTH_CLIENTS: /^GATEWAY_SECRET: is missing/ }, ['SANDBOX_CLIENT_ID']],
    [
      { API_KEYS: `${one},${entry('b', 'vgk_b')}`, SANDBOX_CLIENT_ID: 'new', SANDBOX_BASE_URL: 'nowhere' },
      { SANDBOX_BASE_URL: /^SANDBOX_BASE_URL/ },
      ['API_KEYS'],
    ],
  ] as [Record<string, string>, Record<string, RegExp>, string[]][]) {
    await write(file)
    const lines = await hangUp()
    const [[name, reason]] = Object.entries(rejected) as [[string, RegExp]]
    const wrong = lines.find(({ level }) => level === 50)
    t.match(wrong?.reason, reason)
    t.ok(wrong?.variables.includes(name))
    t.notMatch(wrong?.reason, /;/, 'nothing else is wrong')
    t.strictSame(lines.at(-1).variables, changed)
    t.equal(await statusWith('vgk_test'), 200)
  }
  await rm(path)
  await mkdir(path)
  t.match(await hangUp(), [
    { level: 50, reason: '.env: cannot be read', msg: 'the configuration is unchanged' },
  ])
  t.equal(await statusWith('vgk_test'), 200)
  t.equal(await gateway.kill('SIGTERM'), 0)
})

t.test('variables that need a restart are named', async (t) => {
  const { gateway, write, hangUp } = await setUp(t)
  await write({ POLL_CONCURRENCY: '5', PLATFORM: 'mux', MUX_TOKEN_ID: 'x', LOG_LEVEL: 'debug' })
  t.match(await hangUp(), [
    { level: 40, variables: ['LOG_LEVEL', 'PLATFORM', 'POLL_CONCURRENCY'] },
    { level: 30, variables: [] },
  ])
  t.equal(await gateway.kill('SIGTERM'), 0)
})

t.test('credentials of a platform change without a restart, and uploads continue', async (t) => {
  const { gateway, sandbox, write, hangUp, metric } = await setUp(t)
  while ((await metric('gateway_platform_credentials_valid')) !== '1') await sleep(20)
  const { body: video } = await gateway.call('POST', '/v1/videos', { title: 'x' })
  const upload = await beginPut(gateway.url, video.id, 1_000_000)
  upload.write(fakeMp4(500_000))
  const received = async () => (await gateway.call('GET', `/v1/videos/${video.id}`)).body.upload.bytesReceived
  while ((await received()) < 500_000) await sleep(20)

  await write({ SANDBOX_CLIENT_SECRET: 'wrong' })
  t.match(await hangUp(), [{ level: 30, variables: ['SANDBOX_CLIENT_SECRET'] }])
  while ((await metric('gateway_platform_credentials_valid')) !== '0') await sleep(20)
  const refused = await gateway.call('POST', '/v1/videos', { title: 'y' })
  t.match(refused, { status: 502, body: { code: 'platform-unauthorized' } })

  upload.write(Buffer.alloc(500_000))
  t.match(await upload.rest(), /^HTTP\/1\.1 204/m, 'the upload ends with what it began with')

  await write({})
  await hangUp()
  while ((await metric('gateway_platform_credentials_valid')) !== '1') await sleep(20)
  t.equal((await gateway.call('POST', '/v1/videos', { title: 'z' })).status, 201)
  for (const deadline = Date.now() + 20_000; Date.now() < deadline; await sleep(50)) {
    const { body } = await gateway.call('GET', `/v1/videos/${video.id}`)
    if (body.stage === 'ready') break
  }
  t.match((await gateway.call('GET', `/v1/videos/${video.id}`)).body, { stage: 'ready' })
  t.notMatch(gateway.output(), /"wrong"|sandbox-secret/)
  t.equal(sandbox.stats().open_uploads, 0)
  t.equal(await gateway.kill('SIGTERM'), 0)
})

t.test('an open circuit does not apply to a changed base URL', async (t) => {
  const { gateway, sandbox, write, hangUp, metric } = await setUp(t)
  t.equal((await gateway.call('POST', '/v1/videos', { title: 'x' })).status, 201, 'it has a token')
  await sandbox.close()
  for (let calls = 0; calls < 20 && (await metric('gateway_platform_circuit_open')) !== '1'; calls++)
    await gateway.call('POST', '/v1/videos', { title: 'x' })
  t.equal(await metric('gateway_platform_circuit_open'), '1')
  const moved = await startSandbox()
  t.teardown(() => moved.close())
  await write({ SANDBOX_BASE_URL: moved.url })
  await hangUp()
  t.equal(await metric('gateway_platform_circuit_open'), '0')
  t.equal((await gateway.call('POST', '/v1/videos', { title: 'x' })).status, 201)
  t.equal(await gateway.kill('SIGTERM'), 0)
})
