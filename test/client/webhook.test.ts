import { randomBytes } from 'node:crypto'
import { Webhook } from 'standardwebhooks'
import t from 'tap'
import { verifyWebhook } from '../../client/src/index.ts'
import { deriveWebhookSecrets, generateGatewaySecret } from '../../src/auth/gateway-secret.ts'
import { signWebhook } from '../../src/outbound/standard-webhooks.ts'

const [gatewaySecret, older] = [generateGatewaySecret(), generateGatewaySecret()]
const [secret = '', previous = ''] = deriveWebhookSecrets([gatewaySecret], 'endpoint-1', [2, 1])
const event = {
  id: 'evt-1',
  type: 'video.ready',
  timestamp: '2026-11-24T08:00:00.000Z',
  data: { title: 'Öffnung “heute”, \u{1f3ac}\0' },
}
const body = JSON.stringify(event)
const now = () => Date.now()

/** Both verifiers: the independent one, and the client's. */
const verifiers: [string, (body: string, headers: Record<string, string>, secret: string) => unknown][] = [
  ['standardwebhooks', (body, headers, secret) => new Webhook(secret).verify(body, headers)],
  ['the client', (body, headers, secret) => verifyWebhook(body, headers, secret)],
]

t.test('each endpoint, generation and gateway secret has its own derived secret', async (t) => {
  const all = [
    ...deriveWebhookSecrets([gatewaySecret, older], 'endpoint-1', [2, 1]),
    ...deriveWebhookSecrets([gatewaySecret, older], 'endpoint-2', [2, 1]),
    ...deriveWebhookSecrets([gatewaySecret], 'endpoint-1', [12]),
  ]
  t.equal(new Set(all).size, 9)
  for (const one of all) t.match(one, /^whsec_[A-Za-z0-9+/]{43}=$/)
  t.strictSame(deriveWebhookSecrets([gatewaySecret], 'endpoint-1', [2]), [secret], 'and the same again')
  const fixed = 'vgs_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8'
  t.strictSame(
    deriveWebhookSecrets([fixed], 'endpoint-1', [1]),
    ['whsec_NPZEMIgMyWdliMLmmXxVUrdMMZqTorJV11KHZtIWvkU='],
    'a later release must derive the same',
  )
})

t.test('a webhook that the gateway signed is accepted', async (t) => {
  for (const [name, verify] of verifiers) {
    const current = signWebhook([secret], 'evt-1', now(), body)
    const both = signWebhook([secret, previous], 'evt-1', now(), body)
    const rotated = signWebhook(
      deriveWebhookSecrets([gatewaySecret, older], 'endpoint-1', [2, 1]),
      'evt-1',
      now(),
      body,
    )
    t.strictSame(verify(body, current, secret), event, name)
    for (const headers of [both, rotated])
      for (const known of [secret, previous])
        t.strictSame(verify(body, headers, known), event, `${name}, renewed`)
    const [old = ''] = deriveWebhookSecrets([older], 'endpoint-1', [1])
    t.strictSame(verify(body, rotated, old), event, `${name}, while GATEWAY_SECRET is changed`)
    t.strictSame(
      verify(body, signWebhook([secret], 'evt-1', now() - 240_000, body), secret),
      event,
      'a slow one',
    )
  }
  const bytes = Buffer.from(body)
  t.strictSame(verifyWebhook(bytes, new Headers(signWebhook([secret], 'evt-1', now(), bytes)), secret), event)
  const headers = Object.entries(signWebhook([previous], 'evt-1', now(), body))
  t.strictSame(verifyWebhook(body, headers, [secret, previous]), event, 'with the secrets of a change')
  const written = Object.fromEntries(headers.map(([name, value]) => [name.toUpperCase(), [value]]))
  t.strictSame(verifyWebhook(body, written, previous), event, 'headers in other forms')
})

t.test('a webhook that the gateway did not sign is rejected', async (t) => {
  const honest = () => signWebhook([secret], 'evt-1', now(), body)
  const cases: [string, string, Record<string, string>][] = [
    ['another body', body.replace('ready', 'ueady'), honest()],
    ['the same JSON, written in another way', JSON.stringify(event, null, 1), honest()],
    ['a byte more', `${body} `, honest()],
    ['no body', '', honest()],
    ['another id', body, { ...honest(), 'webhook-id': 'evt-2' }],
    ['id and time shifted', body, { ...honest(), 'webhook-id': `evt-1.${honest()['webhook-timestamp']}` }],
    ['another secret', body, signWebhook([previous], 'evt-1', now(), body)],
    ['six minutes ago', body, signWebhook([secret], 'evt-1', now() - 360_000, body)],
    ['last year', body, signWebhook([secret], 'evt-1', now() - 365 * 86_400_000, body)],
    ['next week', body, signWebhook([secret], 'evt-1', now() + 7 * 86_400_000, body)],
    [
      'an old one with a new time',
      body,
      { ...signWebhook([secret], 'evt-1', 0, body), 'webhook-timestamp': String(Math.floor(now() / 1000)) },
    ],
    ['no time', body, { ...honest(), 'webhook-timestamp': 'soon' }],
    [
      'another version',
      body,
      { ...honest(), 'webhook-signature': honest()['webhook-signature'].replace('v1,', 'v1a,') },
    ],
    [
      'a signature without its version',
      body,
      { ...honest(), 'webhook-signature': honest()['webhook-signature'].slice(3) },
    ],
    [
      'a signature cut short',
      body,
      { ...honest(), 'webhook-signature': honest()['webhook-signature'].slice(0, -4) },
    ],
    [
      'many of them, none right',
      body,
      {
        ...honest(),
        'webhook-signature': Array.from({ length: 9 }, () => `v1,${randomBytes(32).toString('base64')}`).join(
          ' ',
        ),
      },
    ],
  ]
  for (const name of ['webhook-id', 'webhook-timestamp', 'webhook-signature'] as const) {
    const { [name]: _, ...others } = honest()
    cases.push([`without ${name}`, body, others as Record<string, string>])
    cases.push([`with an empty ${name}`, body, { ...honest(), [name]: '' }])
  }
  for (const [what, sent, headers] of cases)
    for (const [name, verify] of verifiers)
      t.throws(() => verify(sent, headers, secret), { name: 'WebhookVerificationError' }, `${what}: ${name}`)
  const twice = [...Object.entries(honest()), ['Webhook-Id', 'evt-1']] as [string, string][]
  t.throws(() => verifyWebhook(body, twice, secret), { message: /several headers webhook-id/ })
  for (const bad of ['', 'whsec_', 'secret', 'vgk_short'])
    t.throws(() => verifyWebhook(body, honest(), bad), { name: 'TypeError' })
  const text = signWebhook([secret], 'evt-1', now(), 'hello')
  t.throws(() => verifyWebhook('hello', text, secret), { message: /not JSON/ })
})
