import { readFileSync } from 'node:fs'
import t from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { hashSecret } from '../../src/auth/credentials.ts'
import { deriveWebhookSecrets, generateGatewaySecret } from '../../src/auth/gateway-secret.ts'
import { checkWebhookAgainstDocument } from '../support/document.ts'
import { fakeMp4, type Json, key, startGateway, type TestGateway } from '../support/gateway.ts'
import { startReceiver } from '../support/receiver.ts'

const sandbox = await startSandbox()
t.teardown(() => sandbox.close())
const url = 'https://back-office.example/webhooks'
const unknown = '0192f0c1-7a3e-7c43-8f1d-3a5b6c7d8e9f'
const GATEWAY_SECRET = generateGatewaySecret()
const hash = hashSecret(key).toString('hex')
const production = { NODE_ENV: 'production', API_KEYS: `test:${hash}`, PUBLIC_URL: 'https://videos.example' }

const add = async ({ call }: TestGateway, fields: object = {}): Promise<Json> =>
  (await call('POST', '/v1/webhooks', { json: { url, ...fields } })).body

t.test('an endpoint can be created, changed, renewed and deleted', async (t) => {
  const gateway = await startGateway(t, { sandbox, env: { GATEWAY_SECRET } })
  const { call, app } = gateway
  const fields = { url, description: 'Production', events: ['video.ready', 'webhook.disabled'] }
  const created = await call('POST', '/v1/webhooks', { json: fields })
  t.equal(created.status, 201)
  const { secret, ...endpoint } = created.body
  const { id } = endpoint
  t.match(endpoint, { ...fields, enabled: true, disabledReason: null, failingSince: null, version: 1 })
  t.equal(created.headers.get('location'), `/v1/webhooks/${id}`)
  t.equal(created.headers.get('cache-control'), 'no-store')
  t.strictSame([secret], deriveWebhookSecrets([GATEWAY_SECRET], id, [1]))
  const path = `/v1/webhooks/${id}`
  t.strictSame((await call('GET', path)).body, endpoint, 'the secret is not shown again')

  const other = await add(gateway)
  t.match(other, { description: null, events: null })
  const list = (await call('GET', '/v1/webhooks')).body.items
  t.strictSame(
    list.map((item: Json) => item.id),
    [id, other.id],
  )

  const patch = async (json: object) => (await call('PATCH', path, { json })).body
  t.match(await patch({ description: null, events: null }), { description: null, events: null, version: 2 })
  t.match(await patch({ events: null, url }), { version: 2 }, 'what changes nothing is no change')
  t.match(await patch({ url: 'https://BACK-office.example:443/a b?x=ü#' }), {
    url: 'https://back-office.example/a%20b?x=%C3%BC',
  })
  const afterOf = async () => (await app.gateway.store.findEndpoint(id))?.after ?? 0
  const before = await afterOf()
  t.match(await patch({ enabled: true }), { enabled: true })
  t.match(await patch({ enabled: false }), { enabled: false, disabledReason: null })
  await gateway.create()
  t.equal(await afterOf(), before)
  t.match(await patch({ enabled: true }), { enabled: true, failingSince: null })
  t.ok((await afterOf()) > before, 'one that is enabled again gets what happens from then on')

  t.equal((await call('GET', path)).body.secretRenewedAt, null)
  const renewals = [await call('POST', `${path}/secret`), await call('POST', `${path}/secret`)]
  t.match((await call('GET', path)).body, { secretRenewedAt: renewals[1]?.body.updatedAt })
  t.strictSame(
    renewals.map(({ status, headers, body }) => [status, headers.get('cache-control'), body.secret]),
    [2, 3].map((generation) => [
      200,
      'no-store',
      deriveWebhookSecrets([GATEWAY_SECRET], id, [generation])[0],
    ]),
  )
  t.equal((await call('DELETE', path)).status, 204)
  t.equal((await call('DELETE', path)).status, 404)
  t.equal((await call('GET', '/v1/webhooks')).body.items.length, 1)
})

t.test('a disabled endpoint starts again when it is enabled', async (t) => {
  const gateway = await startGateway(t, { sandbox })
  const { call, app } = gateway
  const disabled = async () => {
    const { id } = await add(gateway)
    await app.gateway.store.updateEndpoint(id, (current, now) => ({
      ...current,
      ...{ enabled: false, disabledReason: 'failing', failingSince: now - 1_000 },
    }))
    return id
  }
  for (const [change, expected] of [
    [{ enabled: true }, { enabled: true, disabledReason: null, failingSince: null }],
    [{ enabled: false }, { enabled: false, disabledReason: null, failingSince: String }],
    [{ url: `${url}/2` }, { enabled: false, disabledReason: 'failing', failingSince: null }],
    [{ description: 'x' }, { enabled: false, disabledReason: 'failing', failingSince: String }],
  ] as const)
    t.match(
      (await call('PATCH', `/v1/webhooks/${await disabled()}`, { json: change })).body,
      expected,
      JSON.stringify(change),
    )
})

/** What is not accepted, in the body of a creation; what its `detail` says. */
const invalid: [body: unknown, detail: RegExp][] = [
  [undefined, /body/i],
  [[], /must be a JSON object/],
  [{}, /^\/url is required/],
  [{ url: 7 }, /^\/url must be a string/],
  [{ url: '' }, /^\/url must not be empty/],
  [{ url: `https://a.example/${'x'.repeat(2_100)}` }, /^\/url must have at most 2048 characters/],
  [{ url: 'back-office.example' }, /^\/url is not a URL: send one that begins with https:\/\//],
  [{ url: '/webhooks' }, /begins with https/],
  [{ url: 'ftp://a.example' }, /begins with https/],
  [{ url: 'javascript:alert(1)' }, /begins with https/],
  [{ url: 'file:///etc/passwd' }, /begins with https/],
  [{ url: ' https://a.example' }, /begins with https/],
  [{ url: 'https://' }, /begins with https/],
  [{ url: 'http://a.example' }, /^\/url is not https: send a URL that begins with https:\/\//],
  [{ url: 'https://u:p@a.example' }, /^\/url has credentials: send a URL without/],
  [{ url: 'https://u@a.example' }, /credentials/],
  [{ url: 'https://a.example/#x' }, /^\/url has a fragment/],
  [{ url: 'https://a.example:8443' }, /^\/url has the port 8443, which is not allowed: use 443/],
  ...[
    '10.0.0.1',
    '169.254.169.254',
    '0x0a000001',
    '2130706433.1',
    '0.0.0.0',
    '[fe80::1]',
    '[fd00::1]',
    '[::ffff:10.0.0.1]',
    '[64:ff9b::a00:1]',
    '224.0.0.1',
  ].map((host): [unknown, RegExp] => [
    { url: `https://${host}/` },
    /^\/url (has an address that is not public: use|is not a URL)/,
  ]),
  [{ url, events: [] }, /^\/events must not be empty/],
  [{ url, events: 'video.ready' }, /^\/events must be an array/],
  [{ url, events: ['video.lost'] }, /^\/events\/0 must be one of video\.created, /],
  [{ url, events: ['webhook.test'] }, /^\/events\/0 must be one of/],
  [{ url, events: ['video.ready', 'video.ready'] }, /^\/events must not have the same element twice/],
  [{ url, description: 7 }, /^\/description must be a string/],
  [{ url, description: 'x'.repeat(501) }, /^\/description must have at most 500 characters/],
  [{ url, description: 'a\0' }, /^\/description must be text/],
  [{ url, enabled: 'yes' }, /^\/enabled must be true or false/],
  [{ url, secret: 'mine' }, /^\/secret is not a known field/],
]

t.test('an invalid request is rejected with what to send instead', async (t) => {
  const gateway = await startGateway(t, { sandbox })
  const { call } = gateway
  for (const [json, detail] of invalid) {
    const { status, body } = await call('POST', '/v1/webhooks', { json })
    t.match(
      { status, body },
      { status: 400, body: { code: 'invalid-request', detail } },
      JSON.stringify(json),
    )
  }
  t.strictSame((await call('GET', '/v1/webhooks')).body.items, [])
  const { id } = await add(gateway)
  for (const [json, detail] of [
    ...invalid.filter(([json]) => Object.keys(json ?? {}).length > 0),
    [{}, /must have at least one field/],
    [{ id: unknown }, /^\/id is not a known field/],
  ] as const) {
    const { status, body } = await call('PATCH', `/v1/webhooks/${id}`, { json })
    t.match(
      { status, body },
      { status: 400, body: { code: 'invalid-request', detail } },
      JSON.stringify(json),
    )
  }
  t.match(await call('GET', `/v1/webhooks/${id}`), { body: { url, version: 1 } })
  for (const json of [
    { url: 'http://localhost:9/x' },
    { url: 'http://127.0.0.1' },
    { url: 'http://[::1]:9/' },
  ])
    t.equal((await call('POST', '/v1/webhooks', { json })).status, 201, `${json.url} while developing`)
  const form = await call('POST', '/v1/webhooks', { body: new URLSearchParams({ url }) })
  t.match(form, { status: 415, body: { code: 'unsupported-media-type' } })
})

t.test('in production only addresses and ports that the operator allows are accepted', async (t) => {
  const strict = await startGateway(t, { sandbox, env: { ...production, GATEWAY_SECRET } })
  const open = await startGateway(t, {
    sandbox,
    env: {
      ...{ ...production, GATEWAY_SECRET },
      ...{ WEBHOOK_NETWORKS: '10.0.0.0/8, fd00::/8,127.0.0.1', WEBHOOK_PORTS: '443,8443' },
    },
  })
  for (const [target, ...statuses] of [
    [url, 201, 201],
    ['http://localhost:9', 400, 400],
    ['http://127.0.0.1', 400, 400],
    ['https://127.0.0.1', 400, 201],
    ['https://10.1.2.3', 400, 201],
    ['https://[fd00::1]:8443', 400, 201],
    ['https://192.168.0.1', 400, 400],
    ['https://a.example:8443', 400, 201],
    ['https://a.example:22', 400, 400],
  ] as const)
    for (const [index, { call }] of [strict, open].entries())
      t.equal((await call('POST', '/v1/webhooks', { json: { url: target } })).status, statuses[index], target)
})

t.test('in production without a secret no endpoint can be created, and the response says why', async (t) => {
  const { call, app } = await startGateway(t, { sandbox, env: production })
  const { id } = (await app.gateway.store.insertEndpoint(
    (now, after) => ({
      ...{ id: unknown, url, description: null, events: null, enabled: true, disabledReason: null },
      ...{ generation: 1, renewedAt: null, failingSince: null, after },
      ...{ createdAt: now, updatedAt: now, version: 1 },
    }),
    100,
  )) as { id: string }
  for (const [method, path, status, json] of [
    ['POST', '/v1/webhooks', 501, { url }],
    ['POST', `/v1/webhooks/${id}/secret`, 501],
    ['POST', `/v1/webhooks/${id}/test`, 501],
    ['POST', `/v1/webhooks/${id}/deliveries/${unknown}/resend`, 501],
    ['POST', `/v1/webhooks/${id}/deliveries/resend`, 501, { since: '2026-11-24T08:00:00Z' }],
    ['GET', '/v1/webhooks', 200],
    ['PATCH', `/v1/webhooks/${id}`, 200, { enabled: false }],
    ['DELETE', `/v1/webhooks/${id}`, 204],
  ] as const) {
    const response = await call(method, path, json && { json })
    t.equal(response.status, status, `${method} ${path}`)
    if (status === 501)
      t.match(response.body, { code: 'webhooks-not-configured', detail: /operator to set GATEWAY_SECRET/ })
  }
})

t.test('the number of endpoints is limited', async (t) => {
  const gateway = await startGateway(t, { sandbox })
  const { call } = gateway
  const made = await Promise.all(
    Array.from({ length: 105 }, () => call('POST', '/v1/webhooks', { json: { url } })),
  )
  const rejected = made.filter(({ status }) => status !== 201)
  t.equal(rejected.length, 5)
  t.match(rejected[0], { status: 409, body: { code: 'too-many-webhooks', detail: /100 .* Delete one/ } })
  const { items } = (await call('GET', '/v1/webhooks')).body
  t.equal(items.length, 100)
  await call('DELETE', `/v1/webhooks/${items[0].id}`)
  t.equal((await call('POST', '/v1/webhooks', { json: { url } })).status, 201)
})

t.test('unknown and malformed ids are 404', async (t) => {
  const gateway = await startGateway(t, { sandbox })
  const { call } = gateway
  const { id } = await add(gateway)
  for (const wrong of [unknown, 'nope', '%00', '..%2f..', id.toUpperCase(), 'a'.repeat(200)])
    for (const [method, path, json] of [
      ['GET', `/v1/webhooks/${wrong}`],
      ['PATCH', `/v1/webhooks/${wrong}`, { enabled: true }],
      ['DELETE', `/v1/webhooks/${wrong}`],
      ['POST', `/v1/webhooks/${wrong}/secret`],
      ['POST', `/v1/webhooks/${wrong}/test`],
      ['GET', `/v1/webhooks/${wrong}/deliveries`],
      ['POST', `/v1/webhooks/${wrong}/deliveries/${unknown}/resend`],
      ['POST', `/v1/webhooks/${wrong}/deliveries/resend`, { since: '2026-11-24T08:00:00Z' }],
    ] as const)
      t.match(
        await call(method, path, json && { json }),
        { status: 404, body: { code: 'webhook-not-found' } },
        `${method} ${path}`,
      )
  for (const event of [unknown, 'nope', '%00'])
    t.match(
      await call('POST', `/v1/webhooks/${id}/deliveries/${event}/resend`),
      { status: 404, body: { code: 'event-not-found' } },
      event,
    )
})

t.test('deliveries can be listed, filtered and resent', async (t) => {
  const gateway = await startGateway(t, { sandbox })
  const { call, app } = gateway
  const { store } = app.gateway
  // Nothing answers there: what is sent fails, and is tried again much later.
  const { id } = await add(gateway, { url: 'http://127.0.0.1:9/' })
  const path = `/v1/webhooks/${id}/deliveries`
  t.strictSame((await call('GET', path)).body, { items: [], nextCursor: null })
  const tested = await call('POST', `/v1/webhooks/${id}/test`)
  t.match(tested, { status: 202, body: { type: 'webhook.test', status: 'pending', responseStatus: null } })
  for (const title of ['a', 'b', 'c']) await gateway.create({ title })
  while (await store.fanOut(100)) {
    // Until all events have their deliveries.
  }
  const all = (await call('GET', path)).body.items
  t.strictSame(all.map(({ type }: Json) => type).sort(), [
    'video.created',
    'video.created',
    'video.created',
    'webhook.test',
  ])
  const paged: Json[] = []
  for (let cursor = ''; ; ) {
    const { items, nextCursor } = (await call('GET', `${path}?limit=2${cursor && `&cursor=${cursor}`}`)).body
    paged.push(...items)
    if (nextCursor === null) break
    cursor = nextCursor
  }
  const idsOf = (items: Json[]) => items.map(({ eventId }) => eventId)
  t.strictSame(idsOf(paged), idsOf(all))
  t.strictSame((await call('GET', `${path}?status=delivered`)).body.items, [])
  t.equal((await call('GET', `${path}?status=pending`)).body.items.length, 4)
  for (const query of ['status=lost', 'limit=0', 'limit=201', 'cursor=x', 'unknown=1'])
    t.match(await call('GET', `${path}?${query}`), { status: 400, body: { code: 'invalid-request' } }, query)

  for (const eventId of idsOf(all))
    t.match(await call('POST', `${path}/${eventId}/resend`), {
      status: 202,
      body: { eventId, status: 'pending' },
    })
  for (const since of ['2026-11-24T08:00:00Z', '2026-11-24T08:00:00.5+01:00'])
    t.match(await call('POST', `${path}/resend`, { json: { since } }), {
      status: 202,
      body: { since: new Date(since).toISOString() },
    })
  for (const since of [
    'yesterday',
    '2026-11-24',
    '2026-11-24T08:00:00',
    '2026-13-24T08:00:00Z',
    '2026-02-30T00:00:00Z',
    '2025-02-29T00:00:00Z',
    '2026-11-24T24:00:00Z',
    '2026-11-24T08:60:00Z',
    '2199-01-01T00:00:00Z',
    7,
    undefined,
  ])
    t.match(await call('POST', `${path}/resend`, { json: { since } }), {
      status: 400,
      body: {
        code: 'invalid-request',
        detail: /^\/since (must be a (time of RFC 3339|string)|must not be in the future|is required)/,
      },
    })

  await call('PATCH', `/v1/webhooks/${id}`, { json: { enabled: false } })
  for (const [action, json] of [
    ['test'],
    [`deliveries/${all[0].eventId}/resend`],
    ['deliveries/resend', { since: '2026-11-24T08:00:00Z' }],
  ] as const)
    t.match(
      await call('POST', `/v1/webhooks/${id}/${action}`, json && { json }),
      { status: 409, body: { code: 'webhook-disabled', detail: /Enable the endpoint first/ } },
      action,
    )
})

t.test('each type of event matches the OpenAPI document', async (t) => {
  const lines: string[] = []
  const gateway = await startGateway(t, {
    webhooks: { interval: 50, retryIn: () => 50 },
    logger: { level: 'warn', stream: { write: (line: string) => void lines.push(line) } },
  })
  const { call } = gateway
  const receiver = await startReceiver(t)
  const gone = await startReceiver(t, (_webhook, response) => response.writeHead(410).end())
  const all = await add(gateway, { url: receiver.url })
  t.match(lines.join(), /GATEWAY_SECRET: is not set, so this secret of a webhook is valid until the process/)
  await add(gateway, { url: receiver.url, events: ['webhook.disabled'] })
  const typesOf = () => new Set(receiver.received.map(({ event }) => event.type))
  await call('POST', `/v1/webhooks/${all.id}/test`)

  const good = await gateway.create({ description: 'x', reference: 'y' })
  const leave = new AbortController()
  const stalled = new ReadableStream({
    start: (controller) => controller.enqueue(fakeMp4(100_000)),
  })
  const uploading = fetch(`${gateway.url}/v1/videos/${good.id}/content`, {
    method: 'PUT',
    body: stalled,
    duplex: 'half',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'video/mp4' },
    signal: leave.signal,
  } as RequestInit).catch(() => {})
  await gateway.until(good.id, ({ stage }) => stage === 'uploading')
  leave.abort()
  await uploading
  await gateway.until(good.id, ({ stage }) => stage === 'awaiting-upload')
  await gateway.put(good.id, readFileSync('sandbox/sample.mp4'))
  await gateway.until(good.id, ({ status }) => status === 'ready')
  await call('DELETE', `/v1/videos/${good.id}`)
  const bad = await gateway.create()
  await gateway.put(bad.id, fakeMp4(1_000))
  await gateway.until(bad.id, ({ status }) => status === 'error')
  const wanted = await add(gateway, { url: gone.url, events: ['video.created'] })
  await gateway.create()
  await receiver.until(() => typesOf().size === 9)
  for (const { headers, event } of receiver.received) {
    t.doesNotThrow(() => checkWebhookAgainstDocument(headers, event), event.type)
    t.equal(headers['webhook-id'], event.id)
  }
  const disabled = receiver.received.find(({ event }) => event.type === 'webhook.disabled')
  t.match(disabled?.event.data, { id: wanted.id, enabled: false, disabledReason: 'gone' })
  t.match((await call('GET', `/v1/webhooks/${wanted.id}`)).body, { enabled: false, disabledReason: 'gone' })
})
