import { relative } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { hashSecret } from '../../src/auth/credentials.ts'
import { generateGatewaySecret } from '../../src/auth/gateway-secret.ts'
import { version } from '../../src/config/version.ts'
import { temporaryDirectory } from '../support/gateway.ts'
import { type GatewayProcess, startProcess } from '../support/process.ts'

async function until(gateway: GatewayProcess, text: RegExp) {
  for (const deadline = Date.now() + 20_000; !text.test(gateway.output()); await sleep(20))
    if (Date.now() > deadline) throw new Error(`not said: ${gateway.output()}`)
}

async function metric(gateway: GatewayProcess) {
  const { body } = await gateway.call('GET', '/metrics')
  return /^gateway_platform_credentials_valid\{platform="sandbox"\} (\d)$/m.exec(body)?.[1]
}

t.test('credentials are checked once the gateway listens', async (t) => {
  const sandbox = await startSandbox()
  t.teardown(() => sandbox.close())
  const env = { DATABASE_URL: 'memory:', SANDBOX_BASE_URL: sandbox.url }
  for (const [secret, said, value] of [
    ['sandbox-secret', /the credentials of the platform are valid/, '1'],
    [
      'wrong',
      /"level":40.*the platform rejects the credentials: correct its variables, then restart or send SIGHUP/,
      '0',
    ],
  ] as const) {
    const gateway = await startProcess(t, { ...env, SANDBOX_CLIENT_SECRET: secret })
    t.equal((await gateway.call('GET', '/health/ready')).status, 200)
    await until(gateway, said)
    t.equal(await metric(gateway), value)
    t.notMatch(gateway.output(), secret === 'wrong' ? '"wrong"' : secret)
    t.equal(await gateway.kill('SIGTERM'), 0)
  }
})

t.test('the first log line has version, platforms and database', async (t) => {
  const sandbox = await startSandbox()
  t.teardown(() => sandbox.close())
  const directory = await temporaryDirectory(t)
  for (const [databaseUrl, store] of [
    ['memory:', 'memory:'],
    [`sqlite:${directory}/gateway.db`, `sqlite:${directory}/gateway.db`],
    [`sqlite:${relative('.', directory)}/gateway.db`, `sqlite:${directory}/gateway.db`],
  ] as const) {
    const gateway = await startProcess(t, { DATABASE_URL: databaseUrl, SANDBOX_BASE_URL: sandbox.url })
    await until(gateway, /the gateway has started/)
    const lines = gateway.output().split('\n')
    const line = lines.find((text) => text.includes('the gateway has started')) ?? ''
    t.match(JSON.parse(line), { level: 30, version, platforms: ['sandbox'], store })
    t.equal(await gateway.kill('SIGTERM'), 0)
  }
})

t.test('a hanging platform delays neither startup nor shutdown', async (t) => {
  const sandbox = await startSandbox({ knobs: { faults: [{ operation: 'token', times: 1000, hang: true }] } })
  t.teardown(() => sandbox.close())
  const gateway = await startProcess(t, { DATABASE_URL: 'memory:', SANDBOX_BASE_URL: sandbox.url })
  t.equal((await gateway.call('GET', '/health/ready')).status, 200)
  while (sandbox.stats().calls.token === 0) await sleep(10)
  t.equal(await metric(gateway), undefined, 'unknown is no value')
  t.equal(await gateway.kill('SIGTERM'), 0)
})

t.test('weaknesses of a production configuration are logged as warnings', async (t) => {
  const directory = await temporaryDirectory(t)
  const sandbox = await startSandbox()
  t.teardown(() => sandbox.close())
  const env = { DATABASE_URL: `sqlite:${directory}/gateway.db`, SANDBOX_BASE_URL: sandbox.url }
  const first = await startProcess(t, env)
  const { body } = await first.call('POST', '/v1/videos', { title: 'x' })
  const gone = await first.call('POST', '/v1/videos', { title: 'y' })
  t.equal((await first.call('DELETE', `/v1/videos/${gone.body.id}`)).status, 204)
  t.equal(await first.kill('SIGTERM'), 0)
  t.notMatch(first.output(), /PUBLIC_URL|GATEWAY_SECRET|not configured: add it/)

  const second = await startProcess(t, {
    ...env,
    NODE_ENV: 'production',
    PLATFORM: 'mux',
    MUX_BASE_URL: 'http://127.0.0.1:1',
    MUX_TOKEN_ID: 'x',
    MUX_TOKEN_SECRET: 'x',
    OAUTH_CLIENTS: `cms:${hashSecret('secret').toString('hex')}`,
    GATEWAY_SECRET: generateGatewaySecret(),
  })
  await until(second, /"level":40.*"PUBLIC_URL: is not set/)
  await until(second, /"level":40.*"platform":"sandbox","videos":1,.*not configured: add it to PLATFORMS/)
  t.notMatch(second.output(), 'GATEWAY_SECRET')
  t.equal((await second.call('GET', `/v1/videos/${body.id}`)).status, 200)
  t.equal(await second.kill('SIGTERM'), 0)

  const third = await startProcess(t, {
    ...env,
    OAUTH_CLIENTS: `cms:${hashSecret('secret').toString('hex')}`,
  })
  await until(third, /"level":40.*"GATEWAY_SECRET: is not set/)
  t.equal(await third.kill('SIGTERM'), 0)
})
