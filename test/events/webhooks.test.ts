import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import type { WebhookPolicy } from '../../src/events/webhooks.ts'
import type { VideoStore } from '../../src/publication/store.ts'
import type { Delivery, WebhookEndpoint } from '../../src/publication/webhooks.ts'
import { addEndpoint, gatewaySecret, secretOf } from '../support/endpoints.ts'
import { fakeMp4, type Json, startGateway, type TestGateway } from '../support/gateway.ts'
import { type Respond, startReceiver, verified } from '../support/receiver.ts'

const quick: Partial<WebhookPolicy> = { interval: 50, retryIn: () => 30, claim: 5_000, grace: 300 }

interface Setup extends TestGateway {
  store: VideoStore
  /** What was logged so far. */
  log(): Json[]
}

async function setUp(
  t: Test,
  policy: Partial<WebhookPolicy> = {},
  { env = {}, ...options }: Parameters<typeof startGateway>[1] = {},
): Promise<Setup> {
  const lines: string[] = []
  const sandbox = await startSandbox({ knobs: { discard: true, processing_delay_ms: 10 } })
  t.teardown(() => sandbox.close())
  const gateway = await startGateway(t, {
    sandbox,
    env: { GATEWAY_SECRET: gatewaySecret, ...env },
    webhooks: { ...quick, ...policy },
    logger: { level: 'info', stream: { write: (line: string) => void lines.push(line) } },
    ...options,
  })
  return {
    ...gateway,
    store: gateway.app.gateway.store,
    log: () => lines.map((line) => JSON.parse(line)),
  }
}

/** Publishes a video, which makes at least three events. @returns its id */
async function publish(gateway: TestGateway): Promise<string> {
  const { id } = await gateway.create()
  await gateway.put(id, fakeMp4(2_000))
  await gateway.until(id, ({ status }) => status === 'ready')
  return id
}

const feedOf = async (gateway: TestGateway): Promise<Json[]> =>
  (await gateway.call('GET', '/v1/events?limit=200')).body.items

async function deliveryUntil(
  store: VideoStore,
  { id: endpointId }: WebhookEndpoint,
  isDone: (delivery: Delivery) => boolean,
): Promise<Delivery> {
  for (const deadline = Date.now() + 10_000; ; await sleep(10)) {
    const deliveries = await store.deliveries({ endpointId, limit: 100 })
    const found = deliveries.find(isDone)
    if (found) return found
    if (Date.now() > deadline) throw new Error(`still ${JSON.stringify(deliveries)}`)
  }
}

async function endpointUntil(
  store: VideoStore,
  { id }: WebhookEndpoint,
  isDone: (endpoint: WebhookEndpoint) => boolean,
): Promise<WebhookEndpoint> {
  for (const deadline = Date.now() + 10_000; ; await sleep(10)) {
    const endpoint = (await store.findEndpoint(id)) as WebhookEndpoint
    if (isDone(endpoint)) return endpoint
    if (Date.now() > deadline) throw new Error(`still ${JSON.stringify(endpoint)}`)
  }
}

const answer =
  (status: number, headers: Record<string, string> = {}): Respond =>
  (_webhook, response) =>
    response.writeHead(status, headers).end()
const hang: Respond = () => {}

t.test('an endpoint gets every event that it subscribes to, as in the feed, and can verify it', async (t) => {
  const gateway = await setUp(t)
  const [all, some, off] = [await startReceiver(t), await startReceiver(t), await startReceiver(t)]
  const endpoint = await addEndpoint(gateway.store, `${all.url}?token=t0ps3cret`)
  await addEndpoint(gateway.store, some.url, { events: ['video.ready', 'video.deleted'] })
  await addEndpoint(gateway.store, off.url, { enabled: false })
  const ids = [await publish(gateway), await publish(gateway)]
  for (const id of ids) await gateway.call('DELETE', `/v1/videos/${id}`)
  const feed = await feedOf(gateway)
  await all.until(() => all.ids().size === feed.length)
  t.strictSame(
    [...all.ids()].sort(),
    feed.map(({ id }) => id),
  )
  for (const webhook of all.received) {
    const event = feed.find(({ id }) => id === webhook.id)
    t.strictSame(verified(webhook, secretOf(endpoint)), event)
    t.match(webhook.headers, {
      'content-type': 'application/json',
      'user-agent': /^video-gateway\/\d/,
      'accept-encoding': 'identity',
    })
    t.notOk(webhook.headers.traceparent)
  }
  t.throws(() => verified(all.received[0]!, secretOf({ ...endpoint, generation: 2 })))
  await some.until(() => some.ids().size === 4)
  t.strictSame(
    new Set(some.received.map(({ event }) => event.type)),
    new Set(['video.ready', 'video.deleted']),
  )
  t.equal(off.received.length, 0)
  const delivery = await deliveryUntil(gateway.store, endpoint, ({ status }) => status === 'delivered')
  t.match(delivery, { attempts: 1, failure: null, responseStatus: 204, nextAttemptAt: null })
  t.notMatch(JSON.stringify(gateway.log()), /t0ps3cret|\/hook/)
  const { body: metrics } = await gateway.call('GET', '/metrics')
  t.match(metrics, new RegExp(`delivery_duration_seconds_count{outcome="delivered"} ${feed.length + 4}`))
  t.match(metrics, 'gateway_webhook_endpoints{state="enabled"} 2')
  t.match(metrics, 'gateway_webhook_endpoints{state="disabled"} 1')
  t.match(metrics, 'gateway_webhook_oldest_pending_seconds 0')
  t.notMatch(metrics, /t0ps3cret|hook"/)
})

t.test('a delivery that fails is repeated with the same id, until it succeeds', async (t) => {
  const gateway = await setUp(t)
  const statuses = [500, 404, 302, 429]
  const receiver = await startReceiver(t, (_webhook, response) => {
    const status = statuses.shift() ?? 204
    response
      .writeHead(status, { 'retry-after': '0', location: 'http://169.254.169.254/' })
      .end(`no ${status}`)
  })
  const endpoint = await addEndpoint(gateway.store, receiver.url, { events: ['video.created'] })
  await gateway.create()
  const failing = await deliveryUntil(gateway.store, endpoint, ({ failure }) => failure !== null)
  t.match(failing, { status: 'pending', attempts: Number, nextAttemptAt: Number })
  await receiver.until(() => receiver.received.length === 5)
  t.equal(receiver.ids().size, 1)
  const delivery = await deliveryUntil(gateway.store, endpoint, ({ status }) => status === 'delivered')
  t.match(delivery, { attempts: 5, failure: null, responseStatus: 204 })
  t.match(await gateway.store.findEndpoint(endpoint.id), { failingSince: null, enabled: true })
  for (const webhook of receiver.received) t.ok(verified(webhook, secretOf(endpoint)))
  const { body: metrics } = await gateway.call('GET', '/metrics')
  t.match(metrics, 'duration_seconds_count{outcome="status"} 3')
  t.match(metrics, 'duration_seconds_count{outcome="redirect"} 1')
  t.match(metrics, 'gateway_webhook_deliveries_abandoned_total 0')
})

t.test('a delivery has failed after its last attempt', async (t) => {
  const gateway = await setUp(t, { retryIn: (attempts) => (attempts < 3 ? 20 : undefined) })
  const receiver = await startReceiver(t, answer(503))
  const endpoint = await addEndpoint(gateway.store, receiver.url, { events: ['video.created'] })
  await gateway.create()
  const delivery = await deliveryUntil(gateway.store, endpoint, ({ status }) => status === 'failed')
  t.match(delivery, { attempts: 3, failure: 'status', responseStatus: 503, nextAttemptAt: null })
  t.match((await gateway.call('GET', '/metrics')).body, 'gateway_webhook_deliveries_abandoned_total 1')
})

t.test(
  'an endpoint that is gone or fails for days is disabled, and other endpoints are notified',
  async (t) => {
    const gateway = await setUp(t, { failingLimit: 400 })
    const told = await startReceiver(t)
    const unasked = await startReceiver(t)
    const gone = await startReceiver(t, answer(410))
    const failing = await startReceiver(t, answer(500))
    const watcher = await addEndpoint(gateway.store, told.url, { events: ['webhook.disabled'] })
    await addEndpoint(gateway.store, unasked.url)
    const endpoints = [
      await addEndpoint(gateway.store, `${gone.url}?t0ps3cret`),
      await addEndpoint(gateway.store, `${failing.url}?t0ps3cret`, {
        events: ['video.created', 'webhook.disabled'],
      }),
    ] as const
    await gateway.create()
    const after = [
      await endpointUntil(gateway.store, endpoints[0], ({ enabled }) => !enabled),
      await endpointUntil(gateway.store, endpoints[1], ({ enabled }) => !enabled),
    ] as const
    t.match(after, [{ disabledReason: 'gone' }, { disabledReason: 'failing', failingSince: Number }])
    t.ok(failing.received.length > 2)
    await told.until(() => told.ids().size === 2)
    for (const webhook of told.received) {
      t.match(verified(webhook, secretOf(watcher)), {
        id: webhook.id,
        type: 'webhook.disabled',
        timestamp: String,
        data: { enabled: false },
      })
    }
    t.strictSame(
      new Set(told.received.map(({ event }) => `${event.data.id} ${event.data.disabledReason}`)),
      new Set([`${endpoints[0].id} gone`, `${endpoints[1].id} failing`]),
    )
    await unasked.until(() => unasked.received.length > 0)
    t.ok(unasked.received.every(({ event }) => event.type.startsWith('video.')))
    const lines = gateway.log().filter(({ msg }) => msg === 'a webhook endpoint was disabled')
    t.equal(lines.length, 2)
    t.match(lines, [{ level: 40, endpoint: endpoints[0].id, reason: 'gone' }, { reason: 'failing' }])
    t.notMatch(JSON.stringify(gateway.log()), 't0ps3cret')
    const { body: metrics } = await gateway.call('GET', '/metrics')
    t.match(metrics, 'gateway_webhook_endpoints_disabled_total{reason="gone"} 1')
    t.match(metrics, 'gateway_webhook_endpoints_disabled_total{reason="failing"} 1')
    const count = gone.received.length + failing.received.length
    await gateway.create()
    await sleep(200)
    t.equal(gone.received.length + failing.received.length, count, 'it gets nothing more')
  },
)

t.test('endpoints that hang do not use the places of another one', async (t) => {
  const places = { total: 4, perEndpoint: 4, reserved: 2 }
  const gateway = await setUp(t, { places, retryIn: () => 60_000 })
  const hanging = await Promise.all([1, 2, 3, 4].map(() => startReceiver(t, hang)))
  for (const { url } of hanging) await addEndpoint(gateway.store, url)
  for (let count = 0; count < 4; count++) await gateway.create()
  for (const receiver of hanging) await receiver.until(() => receiver.received.length >= 2)
  const good = await startReceiver(t)
  await addEndpoint(gateway.store, good.url)
  for (let count = 0; count < 20; count++) await gateway.create()
  await good.until(() => good.ids().size === 20)
  const counts = hanging.map(({ received }) => received.length)
  t.ok(
    counts.every((count) => count >= 2 && count <= 4),
    `${counts}`,
  )
  t.ok(counts.reduce((sum, count) => sum + count) <= 4 + 4 * 2)
})

t.test('a failed delivery to an earlier URL does not disable the changed endpoint', async (t) => {
  const gateway = await setUp(t)
  const releases: (() => void)[] = []
  const slow = await startReceiver(t, (_webhook, response) => {
    releases.push(() => response.writeHead(410).end())
  })
  const next = await startReceiver(t)
  const moved = await addEndpoint(gateway.store, slow.url, { events: ['video.created'] })
  const deleted = await addEndpoint(gateway.store, slow.url, { events: ['video.created'] })
  const { id } = await gateway.create()
  await slow.until(() => slow.received.length === 2)
  await gateway.store.updateEndpoint(moved.id, (current) => ({ ...current, url: next.url }))
  await gateway.store.deleteEndpoint(deleted.id)
  for (const release of releases) release()
  await next.until(() => next.received.length === 1)
  t.match(next.received[0], { event: { type: 'video.created', data: { id } } })
  t.match(await gateway.store.findEndpoint(moved.id), { enabled: true, disabledReason: null })
  t.equal(await gateway.store.findEndpoint(deleted.id), undefined)
  await gateway.create()
  await next.until(() => next.ids().size === 2)
  t.equal(slow.received.length, 2)
  t.notMatch(JSON.stringify(gateway.log()), /webhooks cannot be delivered|was disabled/)
})

t.test('a 410 that comes late does not disable an endpoint that was enabled again', async (t) => {
  const gateway = await setUp(t)
  const releases: (() => void)[] = []
  const slow = await startReceiver(t, (_webhook, response) => {
    if (releases.length < 2) releases.push(() => response.writeHead(410).end())
    else response.end()
  })
  const endpoint = await addEndpoint(gateway.store, slow.url, { events: ['video.created'] })
  for (let count = 0; count < 2; count++) await gateway.create()
  await slow.until(() => slow.received.length === 2)
  releases[0]?.()
  await endpointUntil(gateway.store, endpoint, ({ enabled }) => !enabled)
  await gateway.call('PATCH', `/v1/webhooks/${endpoint.id}`, { json: { enabled: true } })
  releases[1]?.()
  await gateway.create()
  await slow.until(() => slow.ids().size === 3)
  t.match(await gateway.store.findEndpoint(endpoint.id), { enabled: true, disabledReason: null })
})

t.test('at shutdown deliveries finish in a short time, or are left to the next process', async (t) => {
  const env = { DATABASE_URL: `sqlite:${t.testdir()}/gateway.db` }
  const gateway = await setUp(t, { claim: 700, grace: 1_500 }, { env })
  const slow = await startReceiver(t, (_webhook, response) =>
    setTimeout(() => response.writeHead(204).end(), 150),
  )
  let hangs = true
  const stuck = await startReceiver(t, (_webhook, response) => {
    if (!hangs) response.writeHead(204).end()
  })
  const [first, second] = [
    await addEndpoint(gateway.store, slow.url, { events: ['video.created'] }),
    await addEndpoint(gateway.store, stuck.url, { events: ['video.created'] }),
  ]
  await gateway.create()
  await slow.until(() => slow.received.length === 1)
  await stuck.until(() => stuck.received.length === 1)
  await gateway.close()
  hangs = false
  const other = await setUp(t, {}, { env })
  await stuck.until(() => stuck.received.length === 2)
  t.equal(stuck.ids().size, 1)
  t.match(await deliveryUntil(other.store, second, ({ status }) => status === 'delivered'), { attempts: 2 })
  t.match(await deliveryUntil(other.store, first, () => true), { status: 'delivered', attempts: 1 })
  t.equal(slow.received.length, 1)
})

t.test('an outage of the store is logged once, and then everything is delivered', async (t) => {
  let away = false
  const wrapStore = (store: VideoStore): VideoStore => {
    const names = ['endpoints', 'fanOut', 'claimDeliveries', 'nextDeliveriesIn', 'settleDelivery'] as const
    const failing = names.map((name) => [
      name,
      async (...args: never[]) => {
        if (away) throw new Error('the database is away')
        return (store[name] as (...args: never[]) => Promise<unknown>)(...args)
      },
    ])
    return { ...store, ...Object.fromEntries(failing) }
  }
  const gateway = await setUp(t, { claim: 300 }, { wrapStore })
  const receiver = await startReceiver(t)
  await addEndpoint(gateway.store, receiver.url, { events: ['video.created'] })
  await gateway.create()
  await receiver.until(() => receiver.ids().size === 1)
  away = true
  await gateway.create()
  await sleep(400)
  away = false
  await receiver.until(() => receiver.ids().size === 2)
  const lines = gateway.log().filter(({ msg }) => /webhooks cannot be delivered/.test(msg))
  t.equal(lines.length, 1)
  t.match(lines, [{ level: 40, err: { message: 'the database is away' } }])
})

t.test('without endpoints only their list is read, at intervals', async (t) => {
  const calls = new Map<string, number>()
  const wrapStore = (store: VideoStore): VideoStore =>
    Object.fromEntries(
      Object.entries(store).map(([name, method]) => [
        name,
        (...args: unknown[]) => {
          calls.set(name, (calls.get(name) ?? 0) + 1)
          return (method as (...args: unknown[]) => unknown)(...args)
        },
      ]),
    ) as unknown as VideoStore
  const gateway = await setUp(t, { interval: 200 }, { wrapStore })
  calls.clear()
  for (let count = 0; count < 3; count++) await publish(gateway)
  for (const name of ['fanOut', 'claimDeliveries', 'nextDeliveriesIn', 'findEndpoint'])
    t.equal(calls.get(name), undefined, name)
  const before = calls.get('endpoints') ?? 0
  const begun = performance.now()
  await sleep(500)
  const looks = (calls.get('endpoints') ?? 0) - before
  const ms = performance.now() - begun
  t.ok(looks <= ms / 200 + 2, `${looks} looks in ${ms} ms`)
})

t.test('after a renewal the old and the new secret verify for a day', async (t) => {
  const gateway = await setUp(t)
  const receiver = await startReceiver(t)
  const endpoint = await addEndpoint(gateway.store, receiver.url, { events: ['video.created'] })
  const renew = (renewedAgo: number) =>
    gateway.store.updateEndpoint(endpoint.id, (current, now) => ({
      ...current,
      generation: current.generation + 1,
      renewedAt: now - renewedAgo,
    }))
  const verifying = async () => {
    const count = receiver.received.length
    await gateway.create()
    await receiver.until(() => receiver.received.length > count)
    const webhook = receiver.received.at(-1)!
    return [1, 2, 3].filter((generation) => {
      try {
        return verified(webhook, secretOf({ id: endpoint.id, generation }))
      } catch {
        return false
      }
    })
  }
  t.strictSame(await verifying(), [1])
  await renew(0)
  t.strictSame(await verifying(), [1, 2])
  await renew(0)
  t.strictSame(await verifying(), [2, 3], 'a second renewal on the same day')
  await gateway.store.updateEndpoint(endpoint.id, (current, now) => ({
    ...current,
    renewedAt: now - 24 * 3_600_000 - 1,
  }))
  t.strictSame(await verifying(), [3], 'a day later')
})
