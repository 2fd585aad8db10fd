import t from 'tap'
import { hashSecret } from '../../src/auth/credentials.ts'
import { loadConfig } from '../../src/config/config.ts'
import { tokenRateLimit } from '../../src/http/limits.ts'
import { startGateway } from '../support/gateway.ts'

const hash = (secret: string) => hashSecret(secret).toString('hex')

t.test('failed token requests are limited per address', async (t) => {
  const env = { OAUTH_CLIENTS: `cms:${hash('right')}`, TRUSTED_PROXIES: '127.0.0.0/8,::1' }
  const gateway = await startGateway(t, { env })
  const attempt = async (client_secret: string, address: string) => {
    const response = await fetch(`${gateway.url}/oauth2/token`, {
      method: 'POST',
      headers: { 'x-forwarded-for': address },
      body: new URLSearchParams({ grant_type: 'client_credentials', client_id: 'cms', client_secret }),
    })
    return { status: response.status, headers: response.headers, body: await response.json() }
  }
  for (let count = 0; count < tokenRateLimit.max; count++)
    t.equal((await attempt(`guess ${count}`, '203.0.113.7')).status, 401)
  const refused = await attempt('right', '203.0.113.7')
  t.equal(refused.status, 429, 'not even the right one')
  t.strictSame(refused.body, { error: 'temporarily_unavailable', error_description: 'Try again later' })
  t.match(refused.headers.get('retry-after'), /^([1-9]|[1-5]\d|60)$/)
  t.equal(refused.headers.get('cache-control'), 'no-store')
  t.equal((await attempt('right', '203.0.113.8')).status, 200, 'others are not held up')
  t.equal((await gateway.call('GET', '/v1/videos')).status, 200, 'nor is the API')
})

t.test('X-Forwarded-For is ignored without trusted proxies', async (t) => {
  const gateway = await startGateway(t, { env: { OAUTH_CLIENTS: `cms:${hash('right')}` } })
  const statuses = new Set<number>()
  for (let count = 0; count <= tokenRateLimit.max; count++) {
    const headers = { 'x-forwarded-for': `203.0.113.${count}` }
    statuses.add((await fetch(`${gateway.url}/oauth2/token`, { method: 'POST', headers, body: '' })).status)
  }
  t.ok(statuses.has(429))
})

t.test('requests are limited for each client', async (t) => {
  const API_KEYS = `a:${hash('key-a')},b:${hash('key-b')}:videos:read`
  const gateway = await startGateway(t, { env: { API_KEYS, RATE_LIMIT: '5' } })
  const get = (key: string, path = '/v1/videos') =>
    gateway.call('GET', path, { headers: { authorization: `Bearer ${key}` } })
  for (let left = 4; left >= 0; left--) {
    const { status, headers } = await get('key-a', left % 2 ? '/v1/videos/nobody' : '/v1/videos')
    t.ok(status < 429)
    t.equal(headers.get('ratelimit-remaining'), String(left), 'counted over all routes')
  }
  const { status, headers, body } = await get('key-a')
  t.equal(status, 429)
  t.match(headers.get('content-type'), /^application\/problem\+json/)
  t.match(headers.get('retry-after'), /^([1-9]|[1-5]\d|60)$/)
  t.match(body, { code: 'too-many-requests', status: 429, type: '/problems/too-many-requests' })
  t.equal((await get('key-b')).status, 200, 'another client has its own')
  t.equal((await get('wrong')).status, 401)
  t.equal((await get('key-b')).headers.get('ratelimit-remaining'), '3', 'what is refused does not count')
  t.equal((await get('', '/health/ready')).status, 200, 'probes are not counted')
})

t.test('without RATE_LIMIT requests are not limited', async (t) => {
  const gateway = await startGateway(t)
  t.equal((await gateway.call('GET', '/v1/videos')).headers.get('ratelimit-limit'), null)
})

t.test('an invalid RATE_LIMIT or TRUSTED_PROXIES prevents startup', async (t) => {
  for (const [name, value] of [
    ['RATE_LIMIT', '0'],
    ['RATE_LIMIT', 'many'],
    ['TRUSTED_PROXIES', 'proxy.example'],
    ['TRUSTED_PROXIES', '10.0.0.0/99'],
  ] as const)
    t.throws(() => loadConfig({ [name]: value }), { message: new RegExp(`^${name}: `) })
})
