import t from 'tap'
import { hashSecret } from '../../src/auth/credentials.ts'
import { harmlessPath } from '../../src/observability/redaction.ts'
import { fakeMp4, form, key, startGateway } from '../support/gateway.ts'
import { rawConnection, requestHead } from '../support/raw.ts'

const basic = (secret: string) => `Basic ${btoa(`cms:${secret}`)}`
const secret = 'known-secret-0123456789'

/** Ways in which callers put a secret into a URL. */
const targets = [
  `/v1/videos?access_token=${secret}`,
  `/v1/videos?token=${secret}&limit=1`,
  `/v1/videos?limit=1&api_key=${secret}`,
  `/v1/videos?${secret}`,
  `/v1/videos?%61ccess_token=${secret}`,
  `/v1/videos?ACCESS_TOKEN=${secret}`,
  `/v1/videos??access_token=${secret}`,
  `/v1/videos?cursor=${secret}`,
  `/v1/videos%3Faccess_token=${secret}`,
  `/v1/videos%3faccess_token=${secret}`,
  `/v1/videos%253Faccess_token=${secret}`,
  `/v1/videos;access_token=${secret}`,
  `/v1/videos%3Baccess_token=${secret}`,
  `/v1/videos&access_token=${secret}`,
  `/v1/videos/access_token=${secret}`,
  `/v1/videos/access_token%3D${secret}`,
  `/v1/videos/x/status?access_token=${secret}`,
  `/%76%31/videos?access_token=${secret}`,
  `/docs?access_token=${secret}`,
  `/nowhere?access_token=${secret}`,
  `/oauth2/token?client_secret=${secret}`,
  `/health/ready?access_token=${secret}`,
  `/v1/videos?access_token=%ff${secret}`,
  `/v1/%ff?access_token=${secret}`,
  `http://user:${secret}@gateway/v1/videos`,
  `http://gateway/v1/videos?access_token=${secret}`,
]

t.test('a secret in the URL is neither logged nor returned', async (t) => {
  const lines: string[] = []
  const gateway = await startGateway(t, {
    logger: { level: 'trace', stream: { write: (line: string) => void lines.push(line) } },
  })
  for (const target of targets) {
    for (const method of ['GET', 'POST', 'PUT', 'HEAD', 'DELETE']) {
      const from = lines.length
      const connection = await rawConnection(gateway.url)
      const headers = { authorization: `Bearer ${key}`, connection: 'close', 'content-length': 0 }
      connection.write(requestHead(method, target, headers))
      const answer = await connection.rest()
      t.match(answer, /^HTTP\/1\.1 \d{3} /, `${method} ${target}`)
      // The wrong parameter is named to its sender.
      const named = target.endsWith(`?${secret}`)
      t.notMatch(named ? answer.replace(`"path":"${secret}"`, '') : answer, secret, `${method} ${target}`)
      t.notMatch(lines.slice(from).join(''), secret, `${method} ${target}`)
    }
  }
  t.ok(lines.length > targets.length, 'there is something to search')
})

t.test('a logged request target contains no secret and is short', async (t) => {
  const long = `/${'a'.repeat(300)}`
  for (const [target, path] of [
    ['/v1/videos/0192f0c1-7a3e-7c43-8f1d-3a5b6c7d8e9f/content', undefined],
    ['/v1/videos?x', '/v1/videos'],
    ['/', '/'],
    ['?x', '/'],
    ['', '/'],
    ['*', '*'],
    ['/a%20b', '/a%20b'],
    ['/a%2', '/a%2'],
    ['http://host', '/'],
    ['HTTPS://user:password@host/a', '/a'],
    [long, `${long.slice(0, 99)}…`],
    [`/${'a'.repeat(97)}%C3%A9`, `/${'a'.repeat(97)}…`],
    [`/${'a'.repeat(96)}%C3%A9`, `/${'a'.repeat(96)}…`],
  ] as const)
    t.equal(harmlessPath(target), path ?? target, target.slice(0, 50))
})

t.test('responses repeat at most a short part of a request', async (t) => {
  const lines: string[] = []
  const gateway = await startGateway(t, {
    env: { OAUTH_CLIENTS: `cms:${hashSecret('secret').toString('hex')}` },
    logger: { level: 'info', stream: { write: (line: string) => void lines.push(line) } },
  })
  const text = (length: number) => `x${'é😀/~"'.repeat(length / 6)}`
  const long = text(100_000)
  const json = { 'content-type': 'application/json' }
  const requests: Record<
    string,
    [method: string, path: string, options: Parameters<typeof gateway.call>[2]]
  > = {
    'a member name': ['POST', '/v1/videos', { json: { title: 'x', [long]: 1 } }],
    'many long member names': [
      'POST',
      '/v1/videos',
      { json: Object.fromEntries(Array.from({ length: 30 }, (_, n) => [`${n}${text(3_000)}`, n])) },
    ],
    'a member name in a member': ['POST', '/v1/videos', { json: { title: { [long]: 1 } } }],
    'a value': ['POST', '/v1/videos', { json: { title: long } }],
    'a platform': ['POST', '/v1/videos', { json: { title: 'x', platform: long } }],
    'text that is no JSON': ['POST', '/v1/videos', { body: long, headers: json }],
    'a query’s name': ['GET', `/v1/videos?${encodeURIComponent(text(2_000))}=1`, {}],
    'a query’s value': ['GET', `/v1/videos?status=${encodeURIComponent(text(2_000))}`, {}],
    'a query’s name without escapes': ['GET', `/v1/videos?${'n'.repeat(12_000)}`, {}],
    'a path': ['GET', `/v1/${'p'.repeat(12_000)}`, {}],
    'an id': ['GET', `/v1/videos/${'i'.repeat(150)}`, {}],
    'a media type': [
      'POST',
      '/v1/videos',
      { body: 'x', headers: { 'content-type': `a/${'b'.repeat(9_000)}` } },
    ],
    'a media type at the token endpoint': [
      'POST',
      '/oauth2/token',
      { body: 'x', headers: { 'content-type': `a/${'b'.repeat(9_000)}` } },
    ],
    'a scope at the token endpoint': [
      'POST',
      '/oauth2/token',
      {
        body: new URLSearchParams({
          grant_type: 'client_credentials',
          scope: 's'.repeat(7_000),
        }),
        headers: { authorization: basic('secret') },
      },
    ],
    'an Idempotency-Key': [
      'POST',
      '/v1/videos',
      { json: { title: 'x' }, headers: { 'idempotency-key': 'k'.repeat(9_000) } },
    ],
    'a request id': ['GET', '/nowhere', { headers: { 'x-request-id': 'r'.repeat(9_000) } }],
    'the name of a form field': [
      'POST',
      '/v1/videos',
      { body: form({ title: 'x', ['f'.repeat(90)]: 'x' }, fakeMp4(100)) },
    ],
    'the value of a form field': [
      'POST',
      '/v1/videos',
      { body: form({ title: text(60_000) }, fakeMp4(100)) },
    ],
    'a token': ['GET', '/v1/videos', { headers: { authorization: `Bearer ${'t'.repeat(9_000)}` } }],
  }
  for (const [what, [method, path, options]] of Object.entries(requests)) {
    lines.length = 0
    const response = await gateway.call(method, path, options)
    t.match(response.status, /^4\d\d$/, what)
    const size = JSON.stringify(response.body).length + JSON.stringify([...response.headers]).length
    // Twenty errors of a hundred characters each, and all around it.
    t.ok(size < (what.startsWith('many') ? 6_000 : 2_500), `${what}: ${size} characters are returned`)
    t.ok(lines.join('').length < 2_500, `${what}: ${lines.join('').length} characters are logged`)
  }
})

t.test('responses for one client must not be cached', async (t) => {
  const gateway = await startGateway(t, {
    env: { OAUTH_CLIENTS: `cms:${hashSecret('secret').toString('hex')}` },
  })
  const { id } = await gateway.create()
  const without = { headers: { authorization: '' } }
  const grant = { grant_type: 'client_credentials' }
  const token = (secret: string, form: Record<string, string>) => ({
    body: new URLSearchParams(form),
    headers: { authorization: basic(secret) },
  })
  for (const [status, method, path, options] of [
    [200, 'GET', '/v1/videos', {}],
    [200, 'GET', '/%76%31/videos', {}],
    [200, 'GET', `/v1/videos/${id}`, {}],
    [200, 'GET', `/v1/videos/${id}/status`, {}],
    [409, 'GET', `/v1/videos/${id}/info`, {}],
    [400, 'GET', '/v1/videos?limit=x', {}],
    [401, 'GET', '/v1/videos', without],
    [401, 'GET', `/v1/videos/${id}`, without],
    [404, 'GET', '/v1/videos/unknown', {}],
    [404, 'GET', '/v1/nowhere', {}],
    [404, 'GET', '/nowhere', {}],
    [400, 'GET', '/v1/%ff', {}],
    [405, 'PUT', '/v1/videos', {}],
    [201, 'POST', '/v1/videos', { json: { title: 'x' } }],
    [400, 'POST', '/v1/videos', { json: {} }],
    [415, 'PUT', `/v1/videos/${id}/content`, { body: 'x', headers: { 'content-type': 'video/webm' } }],
    [
      204,
      'PUT',
      `/v1/videos/${id}/content`,
      { body: fakeMp4(100), headers: { 'content-type': 'video/mp4' } },
    ],
    [204, 'DELETE', `/v1/videos/${id}`, {}],
    [410, 'GET', `/v1/videos/${id}`, {}],
    [200, 'POST', '/oauth2/token', token('secret', grant)],
    [401, 'POST', '/oauth2/token', token('wrong', grant)],
    [400, 'POST', '/oauth2/token', token('secret', {})],
    [405, 'GET', '/oauth2/token', {}],
  ] as const) {
    const answer = await gateway.call(method, path, options as Parameters<typeof gateway.call>[2])
    t.equal(answer.status, status, `${method} ${path}`)
    t.equal(answer.headers.get('cache-control'), 'no-store', `${method} ${path} ${status}`)
  }
  for (const path of ['/.well-known/jwks.json', '/docs/static/swagger-ui.css'])
    t.match((await gateway.call('GET', path)).headers.get('cache-control'), /public/, path)
})
