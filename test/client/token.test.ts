import t, { type Test } from 'tap'
import { clientCredentials, VideoGateway } from '../../client/src/index.ts'
import { hashSecret } from '../../src/auth/credentials.ts'
import { startGateway } from '../support/gateway.ts'

/** A gateway with one OAuth client, and a fetch that counts token requests and can refuse the next call. */
async function setUp(t: Test, clientSecret = 'secret', scope?: string) {
  const { url } = await startGateway(t, {
    env: { OAUTH_CLIENTS: `cms:${hashSecret('secret').toString('hex')}` },
  })
  const state = { tokens: 0, refuseNext: false }
  const counting: typeof fetch = async (target, init) => {
    if (String(target).endsWith('/oauth2/token')) state.tokens++
    else if (state.refuseNext) {
      state.refuseNext = false
      return Response.json({ code: 'unauthorized' }, { status: 401 })
    }
    return fetch(target, init)
  }
  const credentials = { url, clientId: 'cms', clientSecret, fetch: counting, ...(scope && { scope }) }
  const gateway = new VideoGateway({ url, token: clientCredentials(credentials), fetch: counting })
  return { gateway, state }
}

t.test('concurrent and later calls share one token', async (t) => {
  const { gateway, state } = await setUp(t)
  await Promise.all([gateway.list(), gateway.list(), gateway.create({ title: 'x' })])
  await gateway.list()
  t.equal(state.tokens, 1)
})

t.test('a token that is rejected is replaced, once', async (t) => {
  const { gateway, state } = await setUp(t)
  await gateway.list()
  state.refuseNext = true
  t.match(await gateway.list(), { items: [] })
  t.equal(state.tokens, 2)
})

t.test(
  'wrong credentials are reported with RFC 6749’s error, and tried again by the next call',
  async (t) => {
    const { gateway, state } = await setUp(t, 'wrong')
    await t.rejects(gateway.list(), { name: 'GatewayProblem', code: 'invalid_client', status: 401 })
    const before = state.tokens
    await t.rejects(gateway.list(), { code: 'invalid_client' })
    t.ok(state.tokens > before)
  },
)

t.test('the configured scope is requested', async (t) => {
  const { gateway } = await setUp(t, 'secret', 'videos:read')
  t.match(await gateway.list(), { items: [] })
  await t.rejects(gateway.create({ title: 'x' }), { code: 'insufficient-scope', status: 403 })
})
