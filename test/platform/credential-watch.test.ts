import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { loadConfig } from '../../src/config/config.ts'
import { credentialPolicy, watchCredentials } from '../../src/platform/credential-watch.ts'
import type { VideoPlatform } from '../../src/platform/platform.ts'
import { defaultTools } from '../../src/platform/tools.ts'
import type { PlatformDouble } from './double.ts'
import { startDouble as startApiVideo } from './doubles/api-video.ts'
import { startDouble as startCloudflare } from './doubles/cloudflare-stream.ts'
import { startDouble as startMux } from './doubles/mux.ts'
import { startDouble as startPeertube } from './doubles/peertube.ts'

const log = { info() {}, warn() {}, error() {} }

function createPlatform(t: Test, env: Record<string, string>): VideoPlatform {
  const [configured] = loadConfig(env).platforms
  const observer = { call() {}, circuit() {}, tokenRequest() {} }
  const tools = { ...defaultTools, log, observer, retries: 0, circuit: { failures: 8, halfOpenAfter: 10 } }
  const platform = configured!.definition.create(configured!.variables as never, tools)
  t.teardown(() => platform.close())
  return platform
}

/** Watches with short pauses, and notes what changes and what is logged. */
function watch(t: Test, platform: VideoPlatform) {
  const controller = new AbortController()
  t.teardown(() => controller.abort())
  const changes: (boolean | undefined)[] = []
  const said: string[] = []
  const note = (fields: object, message: string) => said.push(`${message} ${JSON.stringify(fields)}`)
  const policy = { ...credentialPolicy, deadline: 5_000, firstPause: 20, longestPause: 40, interval: 40 }
  const changed = (_name: string, valid: boolean | undefined) => void changes.push(valid)
  const log = { info: note, warn: note, error: note }
  watchCredentials({ platforms: [platform], log, changed, signal: controller.signal, policy })
  return {
    changes,
    said,
    async until(count: number) {
      for (const deadline = Date.now() + 10_000; changes.length < count; await sleep(10))
        if (Date.now() > deadline) throw new Error(`only ${JSON.stringify(changes)}`)
    },
  }
}

t.test('each change of the credentials’ state is logged once', async (t) => {
  const sandbox = await startSandbox()
  t.teardown(() => sandbox.close())
  const fault = (status: number) => {
    sandbox.knobs.faults = status
      ? [
          { operation: 'token', times: 10_000, status },
          { operation: 'list', times: 10_000, status },
        ]
      : []
  }
  fault(503)
  const { changes, said, until } = watch(
    t,
    createPlatform(t, { PLATFORM: 'sandbox', SANDBOX_BASE_URL: sandbox.url }),
  )
  await until(1)
  fault(0)
  await until(2)
  fault(401)
  await until(3)
  await sleep(100)
  fault(0)
  await until(4)
  t.strictSame(changes, [undefined, true, false, true])
  t.match(said, [
    /^the platform is unavailable: .*"platform":"sandbox"/,
    /^the credentials of the platform are valid/,
    /^the platform rejects the credentials: correct its variables/,
    /^the credentials of the platform are valid/,
  ])
})

t.test('the credentials of an unreachable platform are neither valid nor invalid', async (t) => {
  const { changes, until } = watch(
    t,
    createPlatform(t, { PLATFORM: 'sandbox', SANDBOX_BASE_URL: 'http://127.0.0.1:1' }),
  )
  await until(1)
  t.strictSame(changes, [undefined])
})

t.test('after an unexpected response the log says to check the base URL', async (t) => {
  const sandbox = await startSandbox()
  t.teardown(() => sandbox.close())
  const env = { PLATFORM: 'sandbox', SANDBOX_BASE_URL: `${sandbox.url}/not-here` }
  const { changes, said, until } = watch(t, createPlatform(t, env))
  await until(1)
  t.strictSame(changes, [undefined])
  t.match(said, [/check its base URL/])
})

/** A secret of each platform, and what else may be wrong with who the gateway is. */
const wrong: [start: () => Promise<PlatformDouble>, variable: string, value: string, reason: RegExp][] = [
  [startMux, 'MUX_TOKEN_ID', 'wrong', /mux returned 401/],
  [startMux, 'MUX_TOKEN_SECRET', 'wrong', /mux returned 401/],
  [startApiVideo, 'API_VIDEO_API_KEY', 'wrong', /api-video rejected the gateway's credentials/],
  [startPeertube, 'PEERTUBE_USERNAME', 'wrong', /peertube rejected the gateway's credentials/],
  [startPeertube, 'PEERTUBE_PASSWORD', 'wrong', /peertube rejected the gateway's credentials/],
  [startPeertube, 'PEERTUBE_CHANNEL_ID', '4711', /PEERTUBE_CHANNEL_ID: the account has no channel 4711/],
  [startCloudflare, 'CLOUDFLARE_STREAM_API_TOKEN', 'wrong', /cloudflare-stream returned 401/],
]
for (const [start, variable, value, reason] of wrong) {
  t.test(`an invalid ${variable} is reported by name`, async (t) => {
    const double = await start()
    t.teardown(() => double.close())
    const env = { PLATFORM: double.definition.name, ...double.variables }
    const right = watch(t, createPlatform(t, env))
    await right.until(1)
    t.strictSame(right.changes, [true])
    const { changes, said, until } = watch(t, createPlatform(t, { ...env, [variable]: value }))
    await until(1)
    t.strictSame(changes, [false])
    t.match(said, [reason])
  })
}

t.test('an invalid secret of the sandbox is reported', async (t) => {
  const sandbox = await startSandbox()
  t.teardown(() => sandbox.close())
  for (const variable of ['SANDBOX_CLIENT_ID', 'SANDBOX_CLIENT_SECRET']) {
    const env = { PLATFORM: 'sandbox', SANDBOX_BASE_URL: sandbox.url, [variable]: 'wrong' }
    const { changes, until } = watch(t, createPlatform(t, env))
    await until(1)
    t.strictSame(changes, [false], variable)
  }
})
