import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startDouble } from '../platform/doubles/sandbox.ts'
import { fakeMp4, startGateway } from '../support/gateway.ts'

/** What comes of hostile responses of a platform in the API, the database and the log. */
t.jobs = 5

const huge = 'x'.repeat(3_900_000)

async function setUp(t: Test) {
  const double = await startDouble()
  t.teardown(() => double.close())
  const lines: string[] = []
  const gateway = await startGateway(t, {
    logger: { level: 'info', stream: { write: (line: string) => void lines.push(line) } },
    env: { ...double.variables, PLATFORM: 'sandbox', POLL_FACTOR: '1' },
  })
  const replace = (changes: object) =>
    double.rewrite((answer) =>
      answer.operations.includes('token') || typeof answer.body !== 'object'
        ? answer
        : { ...answer, body: { ...answer.body, ...changes } },
    )
  async function upload(title: string): Promise<string> {
    const { id } = await gateway.create({ title })
    t.equal((await gateway.put(id, fakeMp4(1_000) as never)).status, 204)
    return id
  }
  return { double, gateway, lines, replace, upload, logged: () => lines.join('').length }
}

t.test(
  'a creation with an invalid platform id fails, and the list is unchanged',
  { buffered: true },
  async (t) => {
    const { double, gateway, replace, logged } = await setUp(t)
    const { id } = await gateway.create({ title: 'Before' })
    for (const clip_id of [huge, '../../oauth/token', '..', '', 'a\0b', '\ud800']) {
      replace({ clip_id })
      const answer = await gateway.call('POST', '/v1/videos', { json: { title: 'Hostile' } })
      t.match(answer, { status: 502, body: { code: 'platform-protocol-error' } }, clip_id.slice(0, 20))
      t.ok(JSON.stringify(answer.body).length < 1_000)
    }
    double.rewrite()
    const { status, body } = await gateway.call('GET', '/v1/videos')
    t.equal(status, 200)
    t.strictSame(
      body.items.map((video: { id: string }) => video.id),
      [id],
    )
    t.strictSame(double.violations, [])
    t.ok(logged() < 100_000, `${logged()} characters are logged`)
  },
)

t.test('unknown and invalid states are logged in short lines', { buffered: true }, async (t) => {
  const { double, gateway, replace, upload, lines, logged } = await setUp(t)
  const id = await upload('Hostile')
  const before = logged()
  for (const state of [huge, 'archived']) {
    replace({ state })
    const checks = double.calls('status') + 2
    while (double.calls('status') < checks) await sleep(10)
    t.match(await gateway.call('GET', `/v1/videos/${id}`), { status: 200, body: { stage: 'processing' } })
  }
  t.ok(logged() - before < 50_000, `${logged() - before} characters are logged`)
  t.equal(lines.filter((line) => line.includes('archived')).length, 1, 'an unknown state once')
})

t.test(
  'a video never becomes ready with an unsafe launch URL or thumbnail',
  { buffered: true },
  async (t) => {
    const { double, gateway, replace, upload } = await setUp(t)
    const hostile = { stream_url: 'javascript:alert(1)', href: `http://127.0.0.1/${huge}` }
    for (const [field, url] of Object.entries(hostile)) {
      const id = await upload(field)
      replace({ [field]: url })
      double.finish(field)
      const checks = double.calls('info') + 2
      while (double.calls('info') < checks) await sleep(10)
      for (const part of ['info', 'thumbnail'])
        t.equal((await gateway.call('GET', `/v1/videos/${id}/${part}`)).status, 409, `${part}, ${field}`)
      double.rewrite()
      await gateway.until(id, ({ status }) => status === 'ready')
    }
  },
)

t.test('a failure message of any length is stored truncated', { buffered: true }, async (t) => {
  const { gateway, replace, upload } = await setUp(t)
  for (const text of [huge, '\0\ud800', '\u{1F3AC}'.repeat(1_000_000)]) {
    const id = await upload('Broken')
    replace({ state: 'failed', failure: { kind: 'no_video', text } })
    const { error } = await gateway.until(id, ({ status }) => status === 'error')
    t.match(error.message, /^[^\0]{1,500}$/)
    t.ok(error.message.isWellFormed())
    replace({})
  }
})

t.test('no other clip is deleted if the platform ignores its filter', { buffered: true }, async (t) => {
  const { double, gateway, upload } = await setUp(t)
  const strangers: unknown[] = []
  double.rewrite((answer) => {
    if (answer.operations.includes('provision')) strangers.push(answer.body)
    return answer
  })
  const stranger = await upload('A stranger')
  for (const withOurs of [true, false]) {
    double.rewrite((answer) => {
      const { clips } = (answer.body ?? {}) as { clips?: unknown[] }
      return clips ? { ...answer, body: { clips: [...strangers, ...(withOurs ? clips : [])] } } : answer
    })
    double.fail('provision', { reset: { afterBytes: 0 }, late: true })
    const [finds, removals] = [double.calls('find'), double.calls('remove')]
    t.equal((await gateway.call('POST', '/v1/videos', { json: { title: 'Ours' } })).status, 503)
    while (double.calls('find') === finds) await sleep(10)
    while (withOurs && double.calls('remove') === removals) await sleep(10)
    double.rewrite()
    t.match(await gateway.call('GET', `/v1/videos/${stranger}`), { body: { stage: 'processing' } })
  }
  t.equal(double.calls('remove'), 1, 'only ours is removed, where it is listed')
  double.finish('A stranger')
  await gateway.until(stranger, ({ status }) => status === 'ready')
})
