import { spawnSync } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import t from 'tap'
import { hashSecret } from '../../src/auth/credentials.ts'
import { generateGatewaySecret } from '../../src/auth/gateway-secret.ts'
import { startGateway, temporaryDirectory } from '../support/gateway.ts'

const root = new URL('../../', import.meta.url)
const sample = await readFile(new URL('sandbox/sample.mp4', root))

t.test('several gateways share one database, as docs/operations.md describes', async (t) => {
  const directory = await temporaryDirectory(t)
  const env = {
    DATABASE_URL: `sqlite:${join(directory, 'gateway.db')}`,
    PUBLIC_URL: 'https://video.example.com',
    OAUTH_CLIENTS: `cms:${hashSecret('secret').toString('hex')}`,
    GATEWAY_SECRET: generateGatewaySecret(),
  }
  const one = await startGateway(t, { env })
  const two = await startGateway(t, {
    env: { ...env, SANDBOX_BASE_URL: one.sandbox.url },
    sandbox: one.sandbox,
  })

  await t.test('each gateway accepts every call', async (t) => {
    const video = await one.create()
    t.equal((await two.put(video.id, sample)).status, 204)
    t.equal((await one.until(video.id, ({ status }) => status !== 'pending')).status, 'ready')
    t.match((await two.call('GET', `/v1/videos/${video.id}/info`)).body, { mimeType: /./, width: 640 })
    t.equal((await two.call('DELETE', `/v1/videos/${video.id}`)).status, 204)
    t.equal((await one.call('GET', `/v1/videos/${video.id}`)).status, 410)
  })

  await t.test('a token of one gateway is valid at the other', async (t) => {
    const { body } = await one.call('POST', '/oauth2/token', {
      headers: {
        authorization: `Basic ${btoa('cms:secret')}`,
        'content-type': 'application/x-www-form-urlencoded',
      },
      body: 'grant_type=client_credentials',
    })
    const headers = { authorization: `Bearer ${body.access_token}` }
    t.equal((await two.call('GET', '/v1/videos', { headers })).status, 200)
  })

  await t.test('an idempotency key is shared by all gateways', async (t) => {
    const call = { json: { title: 'Once' }, headers: { 'idempotency-key': 'once' } }
    const first = await one.call('POST', '/v1/videos', call)
    const again = await two.call('POST', '/v1/videos', call)
    t.equal(again.body.id, first.body.id)
    t.equal(again.headers.get('idempotency-replayed'), 'true')
  })

  await t.test('the documented backup command makes a complete copy while they run', async (t) => {
    const video = await one.create({ title: 'Backed up' })
    const docs = await readFile(new URL('docs/operations.md', root), 'utf8')
    const command = /^ {4}docker compose exec -T gateway (node -e .*)$/m.exec(docs)?.[1]
    const { status, stderr } = spawnSync('sh', ['-c', command!.replaceAll('/data/', `${directory}/`)], {
      encoding: 'utf8',
    })
    t.equal(status, 0, stderr)
    const copy = new DatabaseSync(join(directory, 'backup.db'), { readOnly: true })
    t.equal(copy.prepare('SELECT count(*) AS n FROM videos WHERE id = ?').get(video.id)?.n, 1)
    t.match(copy.prepare('PRAGMA integrity_check').get(), { integrity_check: 'ok' })
    copy.close()
  })
})
