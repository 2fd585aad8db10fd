import { randomUUIDv7 } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import Mux from '@mux/mux-node'
import t, { type Test } from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { buildApp } from '../../src/app.ts'
import { loadConfig } from '../../src/config/config.ts'
import { startDouble as apiVideo } from '../platform/doubles/api-video.ts'
import { startDouble as cloudflareStream } from '../platform/doubles/cloudflare-stream.ts'
import { startDouble as mux } from '../platform/doubles/mux.ts'
import { webhookRequest, webhooks } from '../platform/webhooks.ts'
import { fakeMp4, startGateway, type TestGateway, temporaryDirectory } from '../support/gateway.ts'

/** What polling alone needs is far beyond the patience of these tests. */
const rarely = { POLL_INITIAL_DELAY: '10m', POLL_MAX_DELAY: '10m' }
const secret = 'a secret of the webhooks'

const hook = ({ url }: TestGateway, platform = 'sandbox') => `${url}/v1/platforms/${platform}/webhook`
const hint = (gateway: TestGateway, ids: { id: string; videoId: string }, platform = 'sandbox') =>
  fetch(hook(gateway, platform), webhookRequest(webhooks[platform]!, secret, ids))

async function hintsOf({ url }: TestGateway, platform: string): Promise<Record<string, number>> {
  const text = await (await fetch(`${url}/metrics`)).text()
  const lines = text.matchAll(/gateway_platform_hints_total\{platform="(.*?)",outcome="(.*?)"\} (\d+)/g)
  return Object.fromEntries(
    [...lines].filter(([, name]) => name === platform).map(([, , outcome, n]) => [outcome, Number(n)]),
  )
}

async function gatewayWithSandbox(t: Test, knobs = {}) {
  const sandbox = await startSandbox({ knobs: { processing_delay_ms: 10, ...knobs } })
  t.teardown(() => sandbox.close())
  const env = { ...rarely, SANDBOX_WEBHOOK_SECRET: secret }
  const gateway = await startGateway(t, { sandbox, env, policy: { metadataWait: 20 } })
  return { gateway, sandbox }
}

t.test('the platform’s own webhook makes a video ready', async (t) => {
  const { gateway, sandbox } = await gatewayWithSandbox(t)
  sandbox.knobs.webhook = { url: hook(gateway), secret }
  const mp4 = await readFile('sandbox/sample.mp4')
  const { id } = await gateway.create()
  await gateway.put(id, mp4)
  await gateway.until(id, ({ status }) => status === 'ready')
  t.match(await hintsOf(gateway, 'sandbox'), { accepted: 1, rejected: 0 })

  sandbox.knobs.fail_processing = { kind: 'broken', text: 'for the test' }
  const second = await gateway.create()
  await gateway.put(second.id, mp4)
  t.match(await gateway.until(second.id, ({ status }) => status === 'error'), { stage: 'failed' })

  await t.test('a hint about a ready video refreshes its metadata at the next read', async (t) => {
    const before = await gateway.call('GET', `/v1/videos/${id}/info`)
    sandbox.knobs.rename = 'v2_'
    await sleep(30)
    t.strictSame(
      (await gateway.call('GET', `/v1/videos/${id}/info`)).body,
      before.body,
      'without a hint: as stored',
    )
    const { body } = await gateway.call('GET', `/v1/videos/${id}`)
    t.equal((await hint(gateway, { id, videoId: body.platform.videoId })).status, 204)
    // A reader waits for the platform as long as for the pause between two fetches, which is short here.
    let url = ''
    for (const deadline = Date.now() + 10_000; !url.includes('v2_') && Date.now() < deadline; await sleep(30))
      url = (await gateway.call('GET', `/v1/videos/${id}/info`)).body.launchUrl
    t.match(url, /v2_/)
  })
})

t.test('a hint during a check causes another check', async (t) => {
  const { gateway, sandbox } = await gatewayWithSandbox(t, { processing_delay_ms: 300 })
  sandbox.knobs.webhook = { url: hook(gateway), secret }
  sandbox.knobs.hold = ['get']
  const { id, platform } = await gateway.create()
  // The upload asks the platform where to send the bytes.
  sandbox.knobs.hold = []
  await gateway.put(id, await readFile('sandbox/sample.mp4'))
  sandbox.knobs.hold = ['get']
  const asked = sandbox.stats().calls.get
  await hint(gateway, { id, videoId: platform.videoId })
  while (sandbox.stats().held_answers === 0) await sleep(5)
  while (sandbox.stats().notifications.delivered === 0) await sleep(5)
  t.equal((await gateway.call('GET', `/v1/videos/${id}/status`)).body.stage, 'processing')
  t.equal(sandbox.stats().calls.get, asked + 1, 'and disturbs the one in progress not at all')
  sandbox.knobs.hold = []
  await gateway.until(id, ({ status }) => status === 'ready')
})

t.test('hints about unknown or waiting videos, and repeated hints, cause no extra checks', async (t) => {
  const { gateway, sandbox } = await gatewayWithSandbox(t, { processing_delay_ms: 600_000 })
  const { id, platform } = await gateway.create()
  await gateway.put(id, fakeMp4(1_000))
  const waiting = await gateway.create()
  const asked = sandbox.stats().calls.get
  for (const ids of [
    { id: randomUUIDv7(), videoId: 'unknown' },
    { id: `${id}\0`, videoId: 'x' },
    { id: "' OR 1=1 --", videoId: 'x' },
    { id: waiting.id, videoId: waiting.platform.videoId },
  ])
    t.equal((await hint(gateway, ids)).status, 204, JSON.stringify(ids))
  t.match(await hintsOf(gateway, 'sandbox'), { accepted: 0, 'unknown-video': 1, 'nothing-to-do': 3 })
  t.equal(sandbox.stats().calls.get, asked)

  const begun = performance.now()
  const answers = await Promise.all(
    Array.from({ length: 60 }, () => hint(gateway, { id, videoId: platform.videoId })),
  )
  t.ok(answers.every(({ status }) => status === 204))
  const { nextCheckAt } = await gateway.until(id, ({ checkedAt }) => checkedAt !== null)
  t.ok(nextCheckAt, 'the video is still looked after')
  await sleep(700)
  const checks = sandbox.stats().calls.get - asked
  // Half a second apart, and one when the first came.
  const most = 2 + (performance.now() - begun) / 500
  t.ok(checks >= 1 && checks <= most, `60 hints at once lead to ${checks} checks`)

  sandbox.knobs.webhook = null
  await gateway.call('DELETE', `/v1/videos/${id}`)
  t.equal((await hint(gateway, { id, videoId: platform.videoId })).status, 204, 'of a deleted video')
})

t.test('a hint to one process wakes the poller of another process', async (t) => {
  const sandbox = await startSandbox({ knobs: { processing_delay_ms: 10 } })
  t.teardown(() => sandbox.close())
  const env = {
    ...rarely,
    SANDBOX_WEBHOOK_SECRET: secret,
    DATABASE_URL: `sqlite:${await temporaryDirectory(t)}/gateway.db`,
  }
  const gateway = await startGateway(t, { sandbox, env })
  const { id, platform } = await gateway.create()
  await gateway.put(id, await readFile('sandbox/sample.mp4'))
  while (sandbox.stats().clips.live === 0) await sleep(10)
  t.equal((await gateway.call('GET', `/v1/videos/${id}/status`)).body.stage, 'processing')

  // It does not listen, so it has no poller.
  const { databaseUrl } = gateway
  const config = loadConfig({ ...env, PLATFORM: 'sandbox', SANDBOX_BASE_URL: sandbox.url })
  const other = await buildApp(Object.assign(config, { databaseUrl }))
  t.teardown(() => other.shutdown())
  const { method, headers, body } = webhookRequest(webhooks.sandbox!, secret, {
    id,
    videoId: platform.videoId,
  })
  const url = '/v1/platforms/sandbox/webhook'
  const answer = await other.server.inject({
    method: method as 'POST',
    url,
    headers,
    payload: Buffer.from(body),
  })
  t.equal(answer.statusCode, 204)
  await gateway.until(id, ({ status }) => status === 'ready')
})

t.test('a new webhook secret is valid after the reload', async (t) => {
  const { gateway, sandbox } = await gatewayWithSandbox(t)
  const ids = { id: randomUUIDv7(), videoId: 'x' }
  const env = { PLATFORM: 'sandbox', SANDBOX_BASE_URL: sandbox.url, SANDBOX_WEBHOOK_SECRET: 'another one' }
  const renewed = () => fetch(hook(gateway), webhookRequest(webhooks.sandbox!, 'another one', ids))
  t.equal((await renewed()).status, 401)
  gateway.app.adopt.platform(loadConfig(env).platforms[0]!)
  t.equal((await renewed()).status, 204)
  t.equal((await hint(gateway, ids)).status, 401, 'the old secret no longer works')
})

t.test('a hint about a video of another platform is ignored', async (t) => {
  const { gateway } = await gatewayWithSandbox(t)
  const { id, platform } = await gateway.create()
  t.equal((await hint(gateway, { id, videoId: platform.videoId })).status, 204)
})

for (const [name, startDouble] of Object.entries({
  mux,
  'cloudflare-stream': cloudflareStream,
  'api-video': apiVideo,
}))
  t.test(`${name}: a signed webhook is accepted`, async (t) => {
    const double = await startDouble()
    t.teardown(() => double.close())
    const vendor = webhooks[name]!
    const variables = { ...double.variables, [vendor.variable]: `the next one, ${secret}` }
    const gateway = await startGateway(t, {
      env: { ...rarely, ...variables, SANDBOX_WEBHOOK_SECRET: secret, PLATFORMS: `sandbox,${name}` },
    })
    const title = `News of ${name}`
    const created = await gateway.create({ title, platform: name })
    await gateway.put(created.id, fakeMp4(5_000))
    double.finish(title)
    const { body } = await gateway.call('GET', `/v1/videos/${created.id}`)
    const ids = { id: created.id, videoId: body.platform.videoId ?? 'asset' }
    t.equal((await hint(gateway, ids)).status, 204, 'an honest webhook of another platform')
    t.match(await hintsOf(gateway, 'sandbox'), { accepted: 0, 'unknown-video': 1 })

    const request = webhookRequest(vendor, secret, ids)
    if (name === 'mux') {
      const library = new Mux({ tokenId: 'id', tokenSecret: 'secret' })
      await library.webhooks.verifySignature(request.body.toString(), request.headers, secret)
    }
    t.equal((await fetch(hook(gateway, name), request)).status, 204)
    await gateway.until(created.id, ({ status }) => status === 'ready')
    t.equal((await fetch(hook(gateway, name), request)).status, 204, 'the same again')
    t.match(await hintsOf(gateway, name), { rejected: 0, failed: 0 })
  })
