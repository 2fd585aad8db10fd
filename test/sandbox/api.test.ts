import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { fetchToken, startClient } from './client.ts'

t.test('tokens are issued to the configured client only', async (t) => {
  const { sandbox, call } = await startClient(t, { clientId: 'me', clientSecret: 'a:b c+d' })
  const ask = (headers: Record<string, string>, form: Record<string, string>) =>
    fetch(`${sandbox.url}/oauth/token`, { method: 'POST', headers, body: new URLSearchParams(form) })
  const post = { client_id: 'me', client_secret: 'a:b c+d' }
  const grant = { grant_type: 'client_credentials' }

  const answer = await ask({}, { ...post, ...grant })
  t.match(await answer.json(), { access_token: /^.{20,}$/, token_type: 'bearer', expires_in: 3600 })
  t.equal(answer.headers.get('cache-control'), 'no-store')
  t.match(await (await ask({}, post)).json(), { error: 'invalid_request' })
  t.match(await (await ask({}, { ...post, grant_type: 'password' })).json(), {
    error: 'unsupported_grant_type',
  })
  for (const [headers, form] of [
    [{}, grant],
    [{}, { ...grant, ...post, client_secret: 'wrong' }],
    [{ authorization: `Basic ${btoa('me:wrong')}` }, grant],
    [{ authorization: `Basic ${btoa('me:%zz')}` }, grant],
  ] as [Record<string, string>, Record<string, string>][]) {
    const refused = await ask(headers, form)
    t.equal(refused.status, 401)
    t.same(await refused.json(), { error: 'invalid_client' })
  }
  t.match(await (await fetch(`${sandbox.url}/.well-known/oauth-authorization-server`)).json(), {
    issuer: sandbox.url,
    token_endpoint: `${sandbox.url}/oauth/token`,
  })
  t.equal((await call('GET', '/clips')).status, 200)
  t.match(sandbox.stats(), { token_requests: 8, calls: { list: 1 } })
})

t.test('a call requires a token that has not expired', async (t) => {
  const { sandbox, call } = await startClient(t)
  const none = await fetch(`${sandbox.url}/clips`)
  t.equal(none.status, 401)
  t.match(none.headers.get('www-authenticate'), /^Bearer/)
  t.match(await none.json(), { fault: { kind: 'unauthenticated', text: String } })

  sandbox.knobs.token_lifetime_s = 1
  const brief = await fetchToken(sandbox)
  const list = (token: string) =>
    fetch(`${sandbox.url}/clips`, { headers: { authorization: `Bearer ${token}` } })
  t.equal((await list(brief)).status, 200)
  await sleep(1050)
  const late = await list(brief)
  t.equal(late.status, 401)
  t.match(late.headers.get('www-authenticate'), /invalid_token/)

  t.equal((await call('GET', '/clips')).status, 200)
  await fetch(`${sandbox.url}/_revoke`, { method: 'POST' })
  t.equal((await call('GET', '/clips')).status, 401)
})

t.test('clips are created and found', async (t) => {
  const { call, sandbox } = await startClient(t)
  const { status, headers, body } = await call('POST', '/clips', { name: 'One', external_ref: 'a' })
  t.equal(status, 201)
  t.equal(headers.get('location'), `${sandbox.url}/clips/${body.clip_id}`)
  t.match(body.ingest_url, new RegExp(`^${sandbox.url}/ingest/.*token=.{32}`))
  await call('POST', '/clips', { name: 'Two', external_ref: 'b' })
  const found = await call('GET', '/clips?external_ref=a')
  t.same(found.body, { clips: [body] })
  t.same((await call('GET', '/clips?external_ref=c')).body, { clips: [] })
  t.equal((await call('GET', '/clips')).body.clips.length, 2)

  for (const wrong of [{}, { name: '' }, { name: 'x'.repeat(201) }, { name: 7 }]) {
    t.match(await call('POST', '/clips', wrong), { status: 422, body: { fault: { kind: 'invalid' } } })
  }
  t.match(await call('GET', '/clips/none'), { status: 404, body: { fault: { kind: 'unknown_clip' } } })
  t.match(await call('GET', '/elsewhere'), { status: 404, body: { fault: { kind: 'unknown_path' } } })
})

t.test('the knobs can be changed and reset over HTTP', async (t) => {
  const { sandbox, call, create } = await startClient(t)
  t.match(await call('PUT', '/_knobs', { require_length: true, token_lifetime_s: 9 }), {
    status: 200,
    body: { require_length: true, token_lifetime_s: 9, processing_delay_ms: 10 },
  })
  t.match(sandbox.knobs, { require_length: true })
  t.equal((await call('PUT', '/_knobs', { speed: 1 })).status, 422)
  t.equal((await call('PUT', '/_knobs', { faults: [{ operation: 'sing', times: 1 }] })).status, 422)
  t.match((await call('DELETE', '/_knobs')).body, { require_length: false, processing_delay_ms: 300 })
  t.match((await call('GET', '/_knobs')).body, { token_lifetime_s: 3600 })
  await create()
  t.match((await call('GET', '/_stats')).body, { calls: { create: 1 }, clips: { empty: 1 }, open_uploads: 0 })
  t.equal((await fetch(`${sandbox.url}/_reset`, { method: 'POST' })).status, 204)
  t.match(sandbox.stats(), { calls: { create: 0 }, clips: { empty: 0 } })
})

t.test('files are served with ranges, HEAD and CORS', async (t) => {
  const { create, put, until, call } = await startClient(t, { knobs: { discard: true } })
  const { clip_id, ingest_url } = await create()
  await put(ingest_url, 'thrown away')
  t.match(await until(clip_id, 'live'), { received_bytes: 11 })
  const { body: media } = await call('GET', `/clips/${clip_id}/media`)
  t.match(media, { frame: { w: 1280, h: 720 }, length_ms: 10_000 })
  const { href } = (await call('GET', `/clips/${clip_id}/poster`)).body
  const get = (range?: string, method = 'GET') => fetch(href, { method, headers: range ? { range } : {} })

  const whole = await get()
  t.equal(whole.status, 200)
  t.equal(whole.headers.get('access-control-allow-origin'), '*')
  const bytes = Buffer.from(await whole.arrayBuffer())
  const size = bytes.length
  for (const [range, from, to] of [
    ['bytes=0-99', 0, 99],
    ['bytes=100-', 100, size - 1],
    ['bytes=-10', size - 10, size - 1],
    [`bytes=5-${size * 2}`, 5, size - 1],
  ] as [string, number, number][]) {
    const part = await get(range)
    t.equal(part.status, 206, range)
    t.equal(part.headers.get('content-range'), `bytes ${from}-${to}/${size}`)
    t.ok(Buffer.from(await part.arrayBuffer()).equals(bytes.subarray(from, to + 1)))
  }
  for (const range of [`bytes=${size}-`, 'bytes=-0']) {
    const none = await get(range)
    t.equal(none.status, 416, range)
    t.equal(none.headers.get('content-range'), `bytes */${size}`)
    t.match(await none.json(), { fault: { kind: 'range' } })
  }
  for (const range of ['bytes=0-1,4-5', 'bytes=9-3', 'lines=1-2', 'bytes=-']) {
    const ignored = await get(range)
    t.equal(ignored.status, 200, range)
    t.equal((await ignored.arrayBuffer()).byteLength, size)
  }
  const head = await get(undefined, 'HEAD')
  t.equal(head.headers.get('content-length'), String(size))
  t.equal(await head.text(), '')
  t.equal((await get(undefined, 'OPTIONS')).status, 204)
  for (const name of ['none.jpg', '..%2F..%2Fpasswd', 'poster', '%2e%2e']) {
    t.equal((await fetch(new URL(name, href))).status, 404, name)
  }
})
