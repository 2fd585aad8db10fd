import t from 'tap'
import { hashSecret } from '../../src/auth/credentials.ts'
import { type Json, startGateway } from '../support/gateway.ts'

const anonymous = { headers: { authorization: '' } }
const client = `cms:${hashSecret('s3cret').toString('hex')}`
const mux = { MUX_TOKEN_ID: 'x', MUX_TOKEN_SECRET: 'x' }

t.test('Swagger UI shows the document as the gateway is configured', async (t) => {
  const issuer = { OAUTH_ISSUER: 'https://login.example', OAUTH_AUDIENCE: 'video-gateway' }
  const cases: [name: string, env: Record<string, string>, shown: object][] = [
    ['keys alone', {}, { platforms: ['sandbox'], oauth2: false, tokens: false }],
    ['clients', { OAUTH_CLIENTS: client }, { platforms: ['sandbox'], oauth2: true, tokens: true }],
    [
      'an external issuer',
      issuer,
      {
        platforms: ['sandbox'],
        oauth2: false,
        tokens: false,
        key: /access token of https:\/\/login\.example/,
      },
    ],
    ['several platforms', { PLATFORMS: 'mux,sandbox', ...mux }, { platforms: ['mux', 'sandbox'] }],
    [
      'a public address below a path',
      { PUBLIC_URL: 'https://media.example/gateway/', OAUTH_CLIENTS: client },
      {
        servers: [{ url: '/gateway' }],
        tokenUrl: '/gateway/oauth2/token',
        uploadUrl: /^https:\/\/media\.example\/gateway\/v1\//,
      },
    ],
  ]
  for (const [name, env, shown] of cases)
    await t.test(name, async (t) => {
      const gateway = await startGateway(t, { env })
      const { body } = await gateway.call('GET', '/docs/json', anonymous)
      const { securitySchemes, schemas } = body.components
      const form = body.paths['/v1/videos#form'].post.requestBody.content['multipart/form-data'].schema
      const json = body.paths['/v1/videos'].post.requestBody.content['application/json'].schema
      const query = body.paths['/v1/videos'].get.parameters.find(({ name }: Json) => name === 'platform')
      t.match(
        {
          platforms: form.properties.platform.enum,
          oauth2: 'oauth2' in securitySchemes,
          tokens: '/oauth2/token' in body.paths,
          key: securitySchemes.apiKey.description,
          servers: body.servers,
          tokenUrl: securitySchemes.oauth2?.flows.clientCredentials.tokenUrl,
          uploadUrl: schemas.Video.examples[0].upload.url,
        },
        shown,
      )
      t.strictSame(json.properties.platform, form.properties.platform)
      t.strictSame(query.schema.enum, form.properties.platform.enum)
      t.equal(schemas.Video.examples[0].platform.name, form.properties.platform.enum[0])
      const schemes = new Set(JSON.stringify(body).match(/"(apiKey|oauth2)":\[/g))
      t.equal(
        schemes.has('"oauth2":['),
        'oauth2' in securitySchemes,
        'no operation names a scheme that is not there',
      )
      t.notMatch(JSON.stringify(body), /video-gateway\.example/)
    })
})

t.test('the document has enums, and no formats of the gateway’s own', async (t) => {
  const gateway = await startGateway(t)
  const { body } = await gateway.call('GET', '/openapi.json', anonymous)
  const formats = new Set(JSON.stringify(body).match(/"format":"[^"]+"/g))
  const standard = ['binary', 'date-time', 'password', 'uri', 'uri-reference', 'uuid']
  t.strictSame([...formats].map((format) => JSON.parse(`{${format}}`).format).sort(), standard)
  const { status, stage } = body.components.schemas.Video.properties
  t.match(status, { type: 'string', enum: ['pending', 'ready', 'error'] })
  t.match(stage, { type: 'string', enum: ['awaiting-upload', 'uploading', 'processing', 'ready', 'failed'] })
  const choices: Json[] = []
  JSON.stringify(body, (_key, value) => {
    if (value?.anyOf?.every((choice: Json) => choice.enum ?? choice.const)) choices.push(value)
    return value
  })
  t.strictSame(choices, [], 'no choice of constants')
})

t.test('GET / is a page for people', async (t) => {
  const gateway = await startGateway(t)
  const { status, headers, body } = await gateway.call('GET', '/', anonymous)
  t.equal(status, 200)
  t.equal(headers.get('content-type'), 'text/html; charset=utf-8')
  t.match(headers.get('content-security-policy'), /^default-src 'none'; style-src 'sha256-/)
  const links = [...body.matchAll(/href="([^"]+)"/g)].map(([, link]) => link as string)
  t.strictSame(links, ['docs/static/theme/favicon.svg', 'docs/', 'openapi.json'])
  for (const link of links) t.equal((await gateway.call('GET', `/${link}`, anonymous)).status, 200, link)
  t.equal((await fetch(gateway.url, { method: 'HEAD' })).status, 200)
  t.match(await gateway.call('POST', '/', anonymous), { status: 405, body: { code: 'method-not-allowed' } })
})

t.test('a fragment in the URL, as in the document, is ignored', async (t) => {
  const gateway = await startGateway(t)
  const created = await gateway.call('POST', '/v1/videos#form', { json: { title: 'x' } })
  t.equal(created.status, 201)
})
