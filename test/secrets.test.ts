import { generateKeyPairSync } from 'node:crypto'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { startSandbox } from '../sandbox/server.ts'
import { hashSecret } from '../src/auth/credentials.ts'
import { generateGatewaySecret } from '../src/auth/gateway-secret.ts'
import { defaultTools } from '../src/platform/tools.ts'
import { fakeMp4, form, startGateway, temporaryDirectory } from './support/gateway.ts'
import { makeMp4, removeMade } from './support/media.ts'
import { rawConnection, requestHead } from './support/raw.ts'
import { startReceiver } from './support/receiver.ts'
import { databaseText, notIn } from './support/secrets.ts'

const hash = (secret: string) => hashSecret(secret).toString('hex')
const { d, ...publicPart } = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({
  format: 'jwk',
})
const known = {
  'the API key': 'vgk_known-api-key-0123456789',
  'the OAuth client’s secret': 'known-client-secret-0123456789',
  'the signing key': String(d),
  'the gateway’s secret': generateGatewaySecret(),
  'the platform’s client secret': 'known-platform-secret-0123456789',
}

/** The tokens in what the gateway sends to the platform: its access tokens, and those of the upload URLs. */
function watchPlatform(origin: string) {
  const tokens = { access: new Set<string>(), upload: new Set<string>() }
  const onRequest = (message: unknown) => {
    const { request } = message as { request: { origin: unknown; path: string; headers: unknown } }
    if (String(request.origin) !== origin) return
    const [, upload] = /[?&]token=([^&]+)/.exec(request.path) ?? []
    if (upload) tokens.upload.add(upload)
    const [, access] = /Bearer ([\w-]+)/.exec([request.headers].flat(3).join(' ')) ?? []
    if (access) tokens.access.add(access)
  }
  subscribe('undici:request:create', onRequest)
  return { tokens, stop: () => unsubscribe('undici:request:create', onRequest) }
}

t.test('no secret leaves the gateway', async (t) => {
  const directory = await temporaryDirectory(t)
  t.teardown(removeMade)
  const [lines, answers]: [string[], string[]] = [[], []]
  const sandbox = await startSandbox({
    clientSecret: known['the platform’s client secret'],
    knobs: { processing_delay_ms: 10 },
  })
  t.teardown(() => sandbox.close())
  const platform = watchPlatform(sandbox.url)
  t.teardown(platform.stop)
  const gateway = await startGateway(t, {
    sandbox,
    logger: { level: 'trace', stream: { write: (line: string) => void lines.push(line) } },
    tools: {
      timeouts: { ...defaultTools.timeouts, answer: 300, afterUpload: 300 },
      retries: 0,
      circuit: { failures: 100, halfOpenAfter: 100 },
    },
    env: {
      DATABASE_URL: `sqlite:${join(directory, 'gateway.db')}`,
      UPLOAD_IDLE_TIMEOUT: '300ms',
      API_KEYS: `cms:${hash(known['the API key'])}`,
      OAUTH_CLIENTS: `cms:${hash(known['the OAuth client’s secret'])}`,
      OAUTH_SIGNING_KEY: JSON.stringify({ ...publicPart, d }),
      GATEWAY_SECRET: known['the gateway’s secret'],
      SANDBOX_CLIENT_SECRET: known['the platform’s client secret'],
    },
  })
  const headers = { authorization: `Bearer ${known['the API key']}` }
  const call = async (method: string, path: string, options: Parameters<typeof gateway.call>[2] = {}) => {
    const answer = await gateway.call(method, path, {
      ...options,
      headers: { ...headers, ...options.headers },
    })
    answers.push(JSON.stringify([...answer.headers]), JSON.stringify(answer.body))
    return answer
  }
  const create = async () => (await call('POST', '/v1/videos', { json: { title: 'x' } })).body.id as string
  const put = (id: string, body: Uint8Array) =>
    call('PUT', `/v1/videos/${id}/content`, { body: body as never, headers: { 'content-type': 'video/mp4' } })
  const token = async (secret: string) => {
    const body = new URLSearchParams({
      grant_type: 'client_credentials',
      client_id: 'cms',
      client_secret: secret,
    })
    const response = await fetch(`${gateway.url}/oauth2/token`, { method: 'POST', body })
    return { status: response.status, text: await response.text() }
  }

  await t.test('during the lifecycle of a video', async (t) => {
    const path = await makeMp4({
      path: join(directory, 'a.mp4'),
      width: 320,
      height: 180,
      seconds: 1,
      layout: 'faststart',
    })
    const file = await readFile(path)
    const raw = await create()
    t.equal((await put(raw, file)).status, 204)
    const idempotency = { 'idempotency-key': 'once' }
    const made = await call('POST', '/v1/videos', {
      body: form({ title: 'one' }, file),
      headers: idempotency,
    })
    t.equal(made.status, 201)
    await call('POST', '/v1/videos', { body: form({ title: 'one' }, file), headers: idempotency })
    const granted = await token(known['the OAuth client’s secret'])
    t.equal(granted.status, 200)
    const bearer = JSON.parse(granted.text).access_token as string
    Object.assign(known, { 'an access token of ours': bearer })
    t.equal((await call('GET', '/v1/videos', { headers: { authorization: `Bearer ${bearer}` } })).status, 200)
    for (const id of [raw, made.body.id]) {
      for (let state = 'pending'; state === 'pending'; )
        state = (await call('GET', `/v1/videos/${id}/status`)).body.status
      for (const part of ['', '/info', '/thumbnail'])
        t.equal((await call('GET', `/v1/videos/${id}${part}`)).status, 200)
    }
    t.equal((await call('DELETE', `/v1/videos/${raw}`)).status, 204)
  })

  /** Part of the URLs of endpoints: clients see it again, the log does not have it. */
  const urlToken = 'known-token-of-a-url'
  await t.test('during deliveries of webhooks', async (t) => {
    const working = await startReceiver(t)
    const failing = await startReceiver(t, (_webhook, response) => response.writeHead(500).end())
    const closed = await startReceiver(t)
    await closed.close()
    const ids: string[] = []
    for (const { url } of [working, failing, closed]) {
      // Both responses show a secret, once.
      const options = { json: { url: `${url}?token=${urlToken}` }, headers }
      const { id, secret } = (await gateway.call('POST', '/v1/webhooks', options)).body
      const renewed = (await gateway.call('POST', `/v1/webhooks/${id}/secret`, { headers })).body.secret
      Object.assign(known, { [`secret 1 of ${url}`]: secret, [`secret 2 of ${url}`]: renewed })
      ids.push(id)
      await call('POST', `/v1/webhooks/${id}/test`)
    }
    await create()
    await working.until(() => working.ids().size >= 2)
    await failing.until(() => failing.ids().size >= 2)
    for (const path of ['', ...ids.flatMap((id) => [`/${id}`, `/${id}/deliveries`])])
      t.equal((await call('GET', `/v1/webhooks${path}`)).status, 200)
    await call('PATCH', `/v1/webhooks/${ids[0]}`, { json: { url: `http://u:${urlToken}@x` } })
    await call('DELETE', `/v1/webhooks/${ids[0]}`)
  })

  await t.test('during failures', async (t) => {
    const echo = {
      fault: {
        kind: 'echo',
        text: [...platform.tokens.access].join(),
        secret: known['the platform’s client secret'],
      },
    }
    for (const fault of [
      { status: 500, body: echo },
      { status: 401, body: echo },
      { status: 403 },
      { status: 422, body: echo },
      { status: 200, body: 'no JSON' },
      { reset: true },
      { hang: true },
    ]) {
      sandbox.knobs.faults = [{ operation: 'create', times: 2, ...fault }]
      t.ok(
        (await call('POST', '/v1/videos', { json: { title: 'x' } })).status >= 422,
        JSON.stringify(fault).slice(0, 30),
      )
      sandbox.knobs.faults = []
    }
    for (const fault of [
      { status: 500, body: echo },
      { reset: true, after_bytes: 1000 },
      { status: 403, body: echo },
      { hang: true },
    ]) {
      const id = await create()
      sandbox.knobs.faults = [{ operation: 'ingest', times: 1, ...fault }]
      t.ok((await put(id, fakeMp4(100_000))).status >= 422)
      sandbox.knobs.faults = []
      t.ok((await call('DELETE', `/v1/videos/${id}`)).status < 500)
    }
    sandbox.revoke()
    for (const body of [
      'no JSON',
      { error: 'invalid_client', error_description: known['the platform’s client secret'] },
    ]) {
      sandbox.knobs.faults = [{ operation: 'token', times: 5, status: 400, body }]
      await call('POST', '/v1/videos', { json: { title: 'x' } })
      sandbox.knobs.faults = []
    }
    const id = await create()
    const connection = await rawConnection(gateway.url)
    const cut = { ...headers, 'content-type': 'video/mp4', 'content-length': 5000 }
    connection.write(requestHead('PUT', `/v1/videos/${id}/content`, cut))
    connection.write(fakeMp4(1000))
    answers.push(await connection.rest(2000))
    connection.socket.destroy()
    answers.push((await token('wrong')).text)
    for (const authorization of [
      `Basic ${btoa(`cms:${known['the API key']}`)}`,
      `Bearer ${known['the API key']} x`,
      `Bearer ${known['the API key']}.a.b`,
    ])
      t.equal((await call('GET', '/v1/videos', { headers: { authorization } })).status, 401)
    t.equal(
      (
        await call('POST', '/v1/videos', {
          body: `{"title":"${known['the API key']}`,
          headers: { 'content-type': 'application/json' },
        })
      ).status,
      400,
    )
  })

  for (const path of [
    '/metrics',
    '/openapi.json',
    '/.well-known/jwks.json',
    '/.well-known/oauth-authorization-server',
    '/docs/static/swagger-initializer.js',
    '/v1/videos',
  ])
    await call('GET', path)
  const database = await databaseText(directory, 'gateway.db')
  t.ok(lines.length > 20 && answers.length > 40 && database.length > 4096, 'there is something to search')
  t.ok(platform.tokens.access.size > 0 && platform.tokens.upload.size > 0, 'the platform’s tokens were seen')

  const secrets: [string, string][] = Object.entries(known)
  for (const token of platform.tokens.access) secrets.push(['an access token of the platform', token])
  for (const token of platform.tokens.upload) secrets.push(['the token of an upload URL', token])
  const document = await readFile(new URL('../openapi/openapi.json', import.meta.url), 'utf8')
  notIn(t, { log: lines.join() }, [['the token in the URL of an endpoint', urlToken]])
  notIn(t, { log: lines.join(), answers: answers.join(), database, document }, secrets)
})
