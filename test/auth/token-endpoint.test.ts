import t from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { hashSecret } from '../../src/auth/credentials.ts'
import { startProcess } from '../support/process.ts'

const grant = 'grant_type=client_credentials'
const whole = `${grant}&client_id=cms&client_secret=secret`
const basic = { authorization: `Basic ${btoa('cms:secret')}` }

/** What is sent, and the `error_description`; a token when there is none. */
const requests: {
  name: string
  body: string
  headers?: Record<string, string>
  status?: number
  says?: string
}[] = [
  { name: 'a good one', body: whole },
  { name: 'with odd parameters', body: `${whole}&__proto__=1&constructor=2&toString=3&${'a&'.repeat(3000)}` },
  { name: 'with a client_id beside Basic', body: `${grant}&client_id=cms`, headers: basic },
  ...['grant_type', 'client_id', 'client_secret', 'scope'].map((name) => ({
    name: `${name} twice`,
    body: `${whole}&scope=videos:read&${name}=a&${name}=b`,
    says: `${name} occurs more than once`,
  })),
  {
    name: 'the same secret twice',
    body: `${whole}&client_secret=secret`,
    says: 'client_secret occurs more than once',
  },
  { name: 'arrays of PHP', body: 'grant_type[]=client_credentials', says: 'grant_type is required' },
  { name: 'nothing', body: '', says: 'grant_type is required' },
  {
    name: 'a NUL in the id',
    body: `${grant}&client_id=%00cms&client_secret=secret`,
    says: 'Invalid parameter: `client_id`',
  },
  {
    name: 'a NUL in Basic',
    body: grant,
    headers: { authorization: `Basic ${btoa('cms\0:secret')}` },
    says: 'Invalid parameter: `client_id`',
  },
  {
    name: 'a NUL in the grant',
    body: 'grant_type=client_credentials%00',
    says: 'Use grant_type=client_credentials',
  },
  {
    name: 'malformed percent-encoding',
    body: `${grant}&client_id=cms&client_secret=%ff`,
    status: 401,
    says: 'Client authentication failed',
  },
  {
    name: 'Basic and a secret',
    body: whole,
    headers: basic,
    says: 'Authenticate with HTTP Basic or in the form, not with both',
  },
  {
    name: 'a long Basic',
    body: grant,
    headers: { authorization: `Basic ${'A'.repeat(10_000)}` },
    status: 401,
    says: 'Client authentication failed',
  },
  { name: '9 KB', body: `${whole}&x=${'x'.repeat(9_000)}`, says: 'The body may have at most 8192 bytes' },
  { name: '5 MB', body: `${whole}&x=${'x'.repeat(5_000_000)}`, says: 'The body may have at most 8192 bytes' },
  {
    name: 'JSON',
    body: '{}',
    headers: { 'content-type': 'application/json' },
    says: 'Send Content-Type: application/x-www-form-urlencoded',
  },
  {
    name: 'gzip',
    body: whole,
    headers: { 'content-encoding': 'gzip' },
    says: 'Send the body uncompressed, without Content-Encoding.',
  },
]

t.test('the token endpoint rejects hostile input', async (t) => {
  const sandbox = await startSandbox()
  t.teardown(() => sandbox.close())
  const { url, call, output } = await startProcess(t, {
    SANDBOX_BASE_URL: sandbox.url,
    DATABASE_URL: 'memory:',
    OAUTH_CLIENTS: `cms:${hashSecret('secret').toString('hex')}`,
    // Each case comes from an address of its own.
    TRUSTED_PROXIES: '127.0.0.1,::1',
  })
  const ask = async (body: string, address: string, headers: Record<string, string> = {}) => {
    const type = { 'content-type': 'application/x-www-form-urlencoded' }
    const all = { ...type, 'x-forwarded-for': address, ...headers }
    const response = await fetch(`${url}/oauth2/token`, { method: 'POST', body, headers: all })
    return {
      status: response.status,
      headers: response.headers,
      body: (await response.json()) as Record<string, unknown>,
    }
  }

  for (const [index, { name, body, headers, status = 400, says }] of requests.entries()) {
    const answer = await ask(body, `10.0.0.${index}`, headers)
    if (says === undefined) t.match(answer, { status: 200, body: { token_type: 'Bearer' } }, name)
    else t.match([answer.status, answer.body.error_description], [status, says], name)
  }

  const before = output().length
  const statuses: number[] = []
  for (let round = 0; round < 50; round++) {
    const guesses = Array.from({ length: 20 }, () =>
      ask(`${grant}&client_id=cms&client_secret=guess`, '10.1.0.1'),
    )
    for (const { status, headers } of await Promise.all(guesses)) {
      statuses.push(status)
      if (status === 429) t.match(headers.get('retry-after'), /^\d+$/)
    }
  }
  // A minute may have passed on a busy machine.
  const tried = statuses.filter((status) => status === 401).length
  t.ok(tried >= 30 && tried <= 60, `${tried} of 1,000 wrong secrets were compared`)
  t.equal(statuses.filter((status) => status === 429).length, 1_000 - tried)
  t.ok(output().length - before < 1_000 * 400, 'the log has a short line for each')
  t.equal((await ask(whole, '10.1.0.2')).status, 200, 'other addresses are not affected')
  t.equal((await call('GET', '/health/live')).status, 200)
})
