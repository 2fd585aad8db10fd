import { readdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { openStore } from '../../src/store/sqlite.ts'
import { fakeMp4, form, key, startGateway, temporaryDirectory } from '../support/gateway.ts'
import { rawConnection, requestHead } from '../support/raw.ts'
import { aVideo } from '../support/video.ts'

const circuit = { failures: 3, halfOpenAfter: 300 }

t.test(
  'when the platform is down the circuit opens, reads continue, and the circuit closes after recovery',
  async (t) => {
    const first = await startSandbox({ knobs: { discard: true, processing_delay_ms: 10 } })
    const gateway = await startGateway(t, { sandbox: first, tools: { retries: 0, circuit } })
    const video = await gateway.create()
    const { port } = new URL(first.url)
    await first.close()

    for (let count = 0; count < 3; count++) {
      const answer = await gateway.call('POST', '/v1/videos', { json: { title: 'x' } })
      t.match(answer, { status: 503, body: { code: 'platform-unavailable' } })
      t.ok(answer.headers.get('retry-after'))
    }
    const metrics = async () => (await gateway.call('GET', '/metrics')).body as string
    t.match(await metrics(), /gateway_platform_circuit_open\{platform="sandbox"\} 1/)
    const calls =
      /gateway_platform_call_duration_seconds_count\{[^}]*operation="provision",outcome="platform-unavailable"\} (\d+)/
    const before = calls.exec(await metrics())?.[1]
    const begun = performance.now()
    const refused = await Promise.all(
      Array.from({ length: 50 }, () => gateway.call('POST', '/v1/videos', { json: { title: 'x' } })),
    )
    t.ok(refused.every(({ status }) => status === 503))
    const trials = 1 + Math.floor((performance.now() - begun) / circuit.halfOpenAfter)
    t.ok(
      Number(calls.exec(await metrics())?.[1]) - Number(before) <= trials,
      'an open circuit makes only trial calls',
    )
    t.match(await gateway.call('GET', `/v1/videos/${video.id}/status`), {
      status: 200,
      body: { stage: 'awaiting-upload' },
    })

    const second = await startSandbox({ port: Number(port), knobs: { discard: true } })
    t.teardown(() => second.close())
    let status = 503
    for (let tries = 0; status !== 201 && tries < 100; tries++, await sleep(50))
      status = (await gateway.call('POST', '/v1/videos', { json: { title: 'x' } })).status
    t.equal(status, 201)
    t.match(await metrics(), /gateway_platform_circuit_open\{platform="sandbox"\} 0/)
  },
)

t.test(
  'each kind of unreachable platform has its error: no DNS record, closed port, hanging token endpoint',
  async (t) => {
    for (const [url, code] of [
      ['http://no-such-host.invalid', 'platform-unavailable'],
      ['http://127.0.0.1:2', 'platform-unavailable'],
    ] as const) {
      const gateway = await startGateway(t, { env: { SANDBOX_BASE_URL: url }, tools: { retries: 0 } })
      t.match(
        await gateway.call('POST', '/v1/videos', { json: { title: 'x' } }),
        { status: 503, body: { code } },
        url,
      )
    }
    const gateway = await startGateway(t, {
      tools: {
        retries: 0,
        timeouts: { connect: 1000, answer: 1000, whole: 5000, afterUpload: 1000 },
        circuit: { failures: 100, halfOpenAfter: 100 },
      },
    })
    gateway.sandbox.knobs.faults.push({ operation: 'token', times: 1, hang: true })
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => gateway.call('POST', '/v1/videos', { json: { title: 'x' } })),
    )
    t.ok(answers.every(({ status, body }) => status === 504 && body.code === 'platform-timeout'))
    t.equal(gateway.sandbox.stats().token_requests, 1, 'no stampede on a slow token endpoint')
    const next = await gateway.call('POST', '/v1/videos', { json: { title: 'x' } })
    t.match(next, { status: 504, body: { code: 'platform-timeout' } })
    t.equal(next.headers.get('retry-after'), '1')
    t.equal(gateway.sandbox.stats().token_requests, 1, 'nor by those who come right after')
    await sleep(1100)
    t.equal((await gateway.call('POST', '/v1/videos', { json: { title: 'x' } })).status, 201)
  },
)

t.test('thousands of videos due after a restart are checked within POLL_CONCURRENCY', async (t) => {
  const count = Number(process.env.PENDING_VIDEOS ?? 2000)
  const url = `sqlite:${await temporaryDirectory(t)}/gateway.db`
  const store = openStore(url)
  for (let index = 0; index < count; index++)
    await store.insert(aVideo({ stage: 'processing', nextCheckAt: index }))
  await store.close()
  const gateway = await startGateway(t, {
    env: { DATABASE_URL: url, POLL_CONCURRENCY: '16', POLL_INITIAL_DELAY: '1h', POLL_MAX_DELAY: '1h' },
  })
  const platform = gateway.app.gateway.platforms.get('sandbox')!
  let [now, most, asked] = [0, 0, 0]
  platform.status = async () => {
    asked++
    most = Math.max(most, ++now)
    await sleep(5)
    now--
    return { state: 'processing' }
  }
  const latencies: number[] = []
  while (asked < count) {
    const started = performance.now()
    t.equal((await gateway.call('GET', '/v1/videos?limit=1')).status, 200)
    latencies.push(performance.now() - started)
    await sleep(10)
  }
  t.ok(most <= 16, `${most} at once`)
  await sleep(100)
  t.equal(asked, count, 'each was asked for once')
  latencies.sort((a, b) => a - b)
  t.comment(
    `${count} videos, at most ${most} at once; the API answered in ${latencies[Math.floor(latencies.length / 2)]?.toFixed(1)} ms (median)`,
  )
})

t.test('a check that was planned by a fast clock is not lost', async (t) => {
  const url = `sqlite:${await temporaryDirectory(t)}/gateway.db`
  const store = openStore(url)
  const video = aVideo({
    stage: 'processing',
    nextCheckAt: Date.now() + 5 * 3_600_000,
    stageSince: Date.now() + 5 * 3_600_000,
  })
  await store.insert(video)
  await store.close()
  const gateway = await startGateway(t, { env: { DATABASE_URL: url } })
  gateway.app.gateway.policy.patience.denial = { ms: 300, times: 3 }
  const status = await gateway.until(video.id, ({ stage }) => stage === 'failed')
  t.equal(status.stage, 'failed', 'the platform does not know this one')
})

t.test(
  'uploads to a slow platform, half of them interrupted, use bounded memory and free every descriptor',
  async (t) => {
    const descriptors = () => readdirSync('/proc/self/fd').length
    const idle = descriptors()
    const sandbox = await startSandbox()
    const gateway = await startGateway(t, { sandbox })
    Object.assign(gateway.sandbox.knobs, { discard: true, read_bytes_per_second: 400_000 })
    const file = fakeMp4(400_000)
    const authorization = `Bearer ${key}`
    let waiting = 0
    const watch = setInterval(() => {
      const parts = [...gateway.app.gateway.uploads.values()].map(
        ({ content }) => content.stream.readableLength,
      )
      waiting = Math.max(waiting, ...parts)
    }, 5)

    async function round() {
      const videos = await Promise.all(Array.from({ length: 50 }, () => gateway.create()))
      const uploads = videos.map(async ({ id }, index) => {
        const path = `/v1/videos/${id}/content`
        if (index % 2) return (await gateway.call('POST', path, { body: form({}, file) })).status
        const connection = await rawConnection(gateway.url)
        const headers = { authorization, 'content-type': 'video/mp4', 'content-length': file.length }
        connection.write(requestHead('PUT', path, headers))
        connection.write(file.subarray(0, 200_000))
        await sleep(200)
        connection.socket.destroy()
        return 204
      })
      t.ok((await Promise.all(uploads)).every((status) => status === 204))
      for (const { id } of videos)
        await gateway.until(id, ({ stage }) => stage === 'ready' || stage === 'awaiting-upload')
      t.equal(gateway.app.gateway.uploads.size, 0)
      return descriptors()
    }

    await round()
    await round()
    clearInterval(watch)
    t.ok(waiting <= 256 * 1024, `at most ${waiting} bytes waited in an upload`)
    await gateway.close()
    await sandbox.close()
    for (let tries = 0; descriptors() > idle && tries < 100; tries++) await sleep(50)
    t.ok(descriptors() <= idle, `${idle} descriptors before, ${descriptors()} after`)
  },
)
