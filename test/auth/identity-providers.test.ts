import { readFileSync } from 'node:fs'
import * as jose from 'jose'
import t, { type Test } from 'tap'
import { createExternalIssuer } from '../../src/auth/external-issuer.ts'
import { loadConfig } from '../../src/config/config.ts'
import { startGateway as startWholeGateway } from '../support/gateway.ts'
import { startGateway } from './gateway.ts'
import { audience, type IssuerDouble, startIssuer } from './issuer-double.ts'
import { foreignTokens } from './token-shapes/other-kinds.ts'
import { providers } from './token-shapes/providers.ts'

/** Publishes the metadata of an issuer whose identifier is the double's URL and this path. */
function publish(issuer: IssuerDouble, path: string, changes: object = {}): string {
  const iss = issuer.url + path
  const metadata = `${path.replace(/\/$/, '')}/.well-known/openid-configuration`
  issuer.answers[metadata] = { issuer: iss, jwks_uri: `${issuer.url}/keys`, ...changes }
  return iss
}

/** A gateway that is configured by these variables, and what its log would say. */
async function start(t: Test, env: Record<string, string>) {
  const said: string[] = []
  const note = (details: object, message: string) => said.push(`${message} ${JSON.stringify(details)}`)
  const config = loadConfig(env).externalIssuer
  if (!config) throw new Error('no issuer is configured')
  const external = createExternalIssuer({ ...config, log: { info: note, warn: note } })
  t.teardown(external.close)
  return { said, ...(await startGateway(t, { external })) }
}

function sign(issuer: IssuerDouble, iss: string, header: object, payload: jose.JWTPayload): Promise<string> {
  const now = Math.floor(Date.now() / 1000)
  return new jose.SignJWT({ iss, iat: now, nbf: now, exp: now + 300, ...payload })
    .setProtectedHeader({ alg: 'RS256', kid: 'one', ...header })
    .sign(issuer.privateKey)
}

const page = readFileSync('docs/identity-providers.md', 'utf8')

for (const provider of providers) {
  t.test(provider.name, async (t) => {
    const issuer = await startIssuer(t)
    const iss = publish(issuer, provider.path)
    const gateway = await start(t, { OAUTH_ISSUER: iss, ...provider.env })
    for (const { what, header = provider.header, payload, name, scopes } of provider.tokens) {
      const { status, body } = await gateway.call('/read', await sign(issuer, iss, header, payload))
      if (scopes === 'refused') t.equal(status, 401, what)
      else if (!scopes.includes('videos:read')) t.equal(status, 403, what)
      else t.strictSame([status, body], [200, { name, scopes }] as never, what)
    }
    t.strictSame(gateway.said, [])
    if (provider.name.startsWith('Google')) return
    for (const [name, value] of Object.entries(provider.env))
      t.match(page, `\n${name}=${value}\n`, 'the recipe')
  })
}

t.test('a token that is not an access token is rejected, with the reason in the log', async (t) => {
  const issuer = await startIssuer(t)
  const lines: string[] = []
  const gateway = await startWholeGateway(t, {
    env: { OAUTH_ISSUER: issuer.url, OAUTH_AUDIENCE: audience, OAUTH_SCOPE_CLAIMS: 'scope,scp,roles' },
    logger: { level: 'info', stream: { write: (line: string) => void lines.push(line) } },
  })
  for (const { what, header = {}, payload, reason } of foreignTokens) {
    lines.length = 0
    const claims = { aud: audience, sub: 'cms', ...payload }
    const token = await sign(issuer, issuer.url, { typ: 'JWT', ...header }, claims)
    const headers = { authorization: `Bearer ${token}` }
    const { status, body } = await gateway.call('GET', '/v1/videos', { headers })
    t.strictSame([status, body.detail], [401, 'The access token is not valid. Request a new one.'], what)
    const logged = lines.map((line) => JSON.parse(line)).find((line) => line.reason)
    t.match(logged?.reason, reason, what)
    t.notMatch(lines.join(''), token.split('.')[2])
  }
})

t.test('a trailing slash of the issuer may be present on either side', async (t) => {
  for (const [path, configured] of [
    ['/realms/video', '/realms/video/'],
    ['/realms/video', '/realms/video//'],
    ['/tenant/', '/tenant'],
    ['', '/'],
    ['/', ''],
  ] as const) {
    const issuer = await startIssuer(t)
    const iss = publish(issuer, path)
    const gateway = await start(t, { OAUTH_ISSUER: issuer.url + configured, OAUTH_AUDIENCE: audience })
    const payload = { aud: audience, sub: 'cms', scope: 'videos:read' }
    const message = `${path} configured as ${configured}`
    t.equal((await gateway.call('/read', await sign(issuer, iss, {}, payload))).status, 200, message)
    const other = iss.endsWith('/') ? iss.slice(0, -1) : `${iss}/`
    t.equal(
      (await gateway.call('/read', await sign(issuer, other, {}, payload))).status,
      401,
      'tokens are exact',
    )
    t.strictSame(gateway.said, [])
  }
})

t.test('metadata of another issuer are reported with the value to set', async (t) => {
  const issuer = await startIssuer(t)
  const token = await sign(
    issuer,
    `${issuer.url}/common`,
    {},
    { aud: audience, scope: 'videos:read', sub: 'x' },
  )
  // Entra ID: the metadata of `common` have a template, those of version 1 another host.
  const named = `${issuer.url}/{tenantid}/v2.0`
  publish(issuer, '/common', { issuer: named })
  const gateway = await start(t, { OAUTH_ISSUER: `${issuer.url}/common`, OAUTH_AUDIENCE: audience })
  t.equal((await gateway.call('/read', token)).status, 503)
  t.match(gateway.said, [`the metadata belongs to ${named}: set OAUTH_ISSUER to it`])

  const lines: string[] = []
  const whole = await startWholeGateway(t, {
    env: { OAUTH_ISSUER: 'https://login.example/tenant/v2.0', OAUTH_AUDIENCE: audience },
    logger: { level: 'info', stream: { write: (line: string) => void lines.push(line) } },
  })
  await whole.call('GET', '/v1/videos', { headers: { authorization: `Bearer ${token}` } })
  t.match(lines.join(''), `its issuer ${issuer.url}/common is neither this gateway nor OAUTH_ISSUER`)
  t.notMatch(lines.join(''), 'JOSEAlgNotAllowed')
})

t.test('an http issuer that is not on loopback requires OAUTH_ALLOW_HTTP', async (t) => {
  const issuer = await startIssuer(t)
  // Not a loopback address, and yet this machine.
  const url = issuer.url.replace('127.0.0.1', '0.0.0.0')
  const env = { OAUTH_ISSUER: url, OAUTH_AUDIENCE: audience }
  const token = await sign(issuer, url, {}, { aud: audience, scope: 'videos:read', sub: 'cms' })
  await t.rejects(start(t, env), /OAUTH_ISSUER: expected an https URL; .*OAUTH_ALLOW_HTTP=true/)
  for (const [jwks_uri, status] of [
    [`${url}/keys`, 200],
    [`${issuer.url}/keys`, 503],
    ['http://keys.example/keys', 503],
    ['file:///etc/keys', 503],
  ] as const) {
    issuer.answers['/.well-known/openid-configuration'] = { issuer: url, jwks_uri }
    const gateway = await start(t, { ...env, OAUTH_ALLOW_HTTP: 'true' })
    t.equal((await gateway.call('/read', token)).status, status, jwks_uri)
  }
})
