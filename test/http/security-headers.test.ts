import t from 'tap'
import { startGateway } from '../support/gateway.ts'

const nothing = "default-src 'none';base-uri 'none';frame-ancestors 'none'"

t.test('responses with data allow a browser nothing', async (t) => {
  const gateway = await startGateway(t)
  for (const path of ['/v1/videos', '/v1/videos/unknown', '/health/ready', '/nowhere', '/openapi.json']) {
    const { headers } = await gateway.call('GET', path)
    t.equal(headers.get('content-security-policy'), nothing, path)
    t.equal(headers.get('x-content-type-options'), 'nosniff', path)
    t.equal(headers.get('x-frame-options'), 'DENY', path)
    t.equal(headers.get('cross-origin-resource-policy'), 'same-origin', path)
    t.equal(headers.get('strict-transport-security'), null, `${path}: no promise of https over http`)
  }
})

t.test('Swagger UI may load its own files and call this API', async (t) => {
  const gateway = await startGateway(t)
  for (const path of ['/docs/', '/docs/static/swagger-ui.css']) {
    const { status, headers } = await gateway.call('GET', path)
    t.equal(status, 200)
    t.match(headers.get('content-security-policy'), /^default-src 'none'; script-src 'self';/, path)
    t.equal(headers.get('referrer-policy'), 'no-referrer', path)
  }
})

t.test('Strict-Transport-Security is sent if PUBLIC_URL is https', async (t) => {
  const gateway = await startGateway(t, { env: { PUBLIC_URL: 'https://videos.example' } })
  const { headers } = await gateway.call('GET', '/v1/videos')
  t.equal(headers.get('strict-transport-security'), 'max-age=31536000')
})
