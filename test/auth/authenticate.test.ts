import { request } from 'node:http'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { generateSecret } from '../../src/auth/credentials.ts'
import { credential, startGateway } from './gateway.ts'

const key = generateSecret('vgk_')
const apiKeys = [
  credential('first', generateSecret('vgk_'), 'videos:delete'),
  credential('cms', key, 'videos:read', 'videos:write'),
  credential('last', 'plain', 'videos:read'),
]

t.test('an API key gives its name and its scopes', async (t) => {
  const gateway = await startGateway(t, { apiKeys })
  t.match(await gateway.call('/write', key), {
    status: 200,
    challenge: null,
    body: { name: 'cms', scopes: ['videos:read', 'videos:write'] },
  })
  t.match(await gateway.call('/read', 'plain'), { status: 200, body: { name: 'last' } })
  for (const scheme of ['bearer', 'BEARER', 'Bearer ']) {
    t.match(await gateway.callWith('/read', { authorization: `${scheme} ${key}` }), { status: 200 }, scheme)
  }
})

t.test('a missing scope is 403, and the challenge names it', async (t) => {
  const gateway = await startGateway(t, { apiKeys })
  const { token } = await gateway.issuer.sign({ client: 'client', scopes: ['videos:read'] })
  for (const bearer of [key, token]) {
    t.match(await gateway.call('/delete', bearer), {
      status: 403,
      body: {
        code: 'insufficient-scope',
        detail: 'This call requires the scope videos:delete. Ask the operator for it.',
      },
      challenge: 'Bearer realm="video-gateway", error="insufficient_scope", scope="videos:delete"',
    })
  }
})

t.test('a missing bearer token is 401 without an error code', async (t) => {
  const gateway = await startGateway(t, { apiKeys })
  for (const headers of [
    {},
    { authorization: '' },
    { authorization: `Basic ${btoa(`cms:${key}`)}` },
    { authorization: key },
  ]) {
    t.match(await gateway.callWith('/read', headers as Record<string, string>), {
      status: 401,
      body: { code: 'unauthorized', detail: /^Send `Authorization: Bearer TOKEN`/ },
      challenge: /^Bearer realm="video-gateway"$/,
    })
  }
})

t.test('a wrong key or a malformed header is 401 invalid_token', async (t) => {
  const gateway = await startGateway(t, { apiKeys })
  const wrong = [
    generateSecret('vgk_'),
    `${key}x`,
    key.slice(0, -1),
    'cms',
    apiKeys[1]!.secretHash.toString('hex'),
  ]
  for (const token of wrong) {
    t.match(await gateway.call('/read', token), {
      status: 401,
      body: {
        code: 'unauthorized',
        detail: 'The API key is not valid. Check it or ask the operator for a new one.',
      },
      challenge:
        'Bearer realm="video-gateway", error="invalid_token", error_description="The API key is not valid. Check it or ask the operator for a new one."',
    })
  }
  for (const garbled of [
    'Bearer',
    `Bearer ${key} ${key}`,
    `Bearer "${key}"`,
    `Bearer ${key},`,
    `Bearer token=${key}`,
  ]) {
    t.match(
      await gateway.callWith('/read', { authorization: garbled }),
      {
        status: 401,
        challenge:
          /error="invalid_token", error_description="The Authorization header is malformed. Send Bearer, a space and the token."$/,
      },
      garbled,
    )
  }
})

t.test('two Authorization headers are rejected, even with a good one among them', async (t) => {
  const gateway = await startGateway(t, { apiKeys })
  for (const [one, other] of [
    [key, key],
    [key, 'x'],
    ['x', key],
  ]) {
    const headers = ['Host', 'x', 'Authorization', `Bearer ${one}`, 'authorization', `Bearer ${other}`]
    const { promise, resolve, reject } = Promise.withResolvers<number | undefined>()
    request(`${gateway.url}/read`, { headers }, (response) => {
      text(response).then(() => resolve(response.statusCode), reject)
    })
      .on('error', reject)
      .end()
    t.equal(await promise, 401)
  }
})

t.test('credentials are accepted in the Authorization header only', async (t) => {
  const gateway = await startGateway(t, { apiKeys })
  t.equal((await gateway.call(`/read?access_token=${key}&api_key=${key}`)).status, 401)
  t.equal((await gateway.callWith('/read', { cookie: `access_token=${key}`, 'x-api-key': key })).status, 401)
})

t.test('with no key configured every key is rejected', async (t) => {
  const gateway = await startGateway(t)
  t.equal((await gateway.call('/read', key)).status, 401)
})
