import t, { type Test } from 'tap'
import { hashSecret } from '../../src/auth/credentials.ts'
import { startGateway } from '../support/gateway.ts'
import { audience, startIssuer } from './issuer-double.ts'

const hash = (secret: string) => hashSecret(secret).toString('hex')

/** A gateway, and tokens of different principals that could be taken for each other. */
async function setUp(t: Test, env: Record<string, string> = {}) {
  const issuer = await startIssuer(t)
  const gateway = await startGateway(t, {
    env: {
      API_KEYS: `cms:${hash('key')}`,
      OAUTH_CLIENTS: `cms:${hash('secret')}`,
      OAUTH_ISSUER: issuer.url,
      OAUTH_AUDIENCE: audience,
      ...env,
    },
  })
  const form = { grant_type: 'client_credentials', client_id: 'cms', client_secret: 'secret' }
  const response = await fetch(`${gateway.url}/oauth2/token`, {
    method: 'POST',
    body: new URLSearchParams(form),
  })
  const { access_token } = (await response.json()) as { access_token: string }
  const external = (claims: object) => issuer.sign({ scope: 'videos:read videos:write', ...claims })
  const nobody = { sub: undefined as never }
  const principals: Record<string, string> = {
    'the API key cms': 'key',
    'the OAuth client cms': access_token,
    'sub cms': await external({ sub: 'cms' }),
    'client_id cms': await external({ ...nobody, client_id: 'cms' }),
    'azp cms': await external({ ...nobody, azp: 'cms' }),
    'sub in the form of an OAuth client': await external({ sub: 'oauth-client cms' }),
    'client_id in the form of a sub': await external({ client_id: `external ${issuer.url}/ sub cms` }),
    'sub with the claim in front': await external({ sub: 'sub cms' }),
    'sub of other case': await external({ sub: 'CMS' }),
    'sub with a space': await external({ sub: 'cms ' }),
  }
  return { gateway, principals }
}

t.test('the same Idempotency-Key of two principals is two keys', async (t) => {
  const { gateway, principals } = await setUp(t)
  const create = (token: string) =>
    gateway.call('POST', '/v1/videos', {
      json: { title: 'news' },
      headers: { authorization: `Bearer ${token}`, 'idempotency-key': 'one' },
    })
  const made = new Map<string, string>()
  for (const [who, token] of Object.entries(principals)) {
    const { status, headers, body } = await create(token)
    t.equal(status, 201, who)
    t.equal(headers.get('idempotency-replayed'), null, who)
    made.set(who, body.id)
  }
  t.equal(new Set(made.values()).size, made.size)
  for (const [who, token] of Object.entries(principals)) {
    const { headers, body } = await create(token)
    t.equal(headers.get('idempotency-replayed'), 'true', who)
    t.equal(body.id, made.get(who), who)
  }
})

t.test('a renewed token belongs to the same principal', async (t) => {
  const issuer = await startIssuer(t)
  const gateway = await startGateway(t, { env: { OAUTH_ISSUER: issuer.url, OAUTH_AUDIENCE: audience } })
  const replayed: (string | null)[] = []
  for (const jti of ['one', 'two']) {
    const token = await issuer.sign({ client_id: 'cms', sub: `user ${jti}`, jti, scope: 'videos:write' })
    const headers = { authorization: `Bearer ${token}`, 'idempotency-key': 'one' }
    const answer = await gateway.call('POST', '/v1/videos', { json: { title: 'news' }, headers })
    replayed.push(answer.headers.get('idempotency-replayed'))
  }
  t.strictSame(replayed, [null, 'true'])
})

t.test('no principal uses up the rate limit of another', async (t) => {
  const { gateway, principals } = await setUp(t, { RATE_LIMIT: '2' })
  for (const [who, token] of Object.entries(principals)) {
    const headers = { authorization: `Bearer ${token}` }
    const statuses: number[] = []
    for (let count = 0; count < 3; count++)
      statuses.push((await gateway.call('GET', '/v1/videos', { headers })).status)
    t.strictSame(statuses, [200, 200, 429], who)
  }
})
