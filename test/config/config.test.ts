import { generateKeyPairSync } from 'node:crypto'
import { readFileSync } from 'node:fs'
import t from 'tap'
import { hashSecret } from '../../src/auth/credentials.ts'
import { generateGatewaySecret } from '../../src/auth/gateway-secret.ts'
import { loadConfig } from '../../src/config/config.ts'
import { warningsOf } from '../../src/config/warnings.ts'

const hash = hashSecret('secret').toString('hex')
const nobody = 'API_KEYS: is missing: set it, OAUTH_CLIENTS or OAUTH_ISSUER (npm run apikey makes a key)'
const production = { NODE_ENV: 'production' }

/** Environments that the gateway does not start with, and all that is said of them. */
const refused: [env: Record<string, string>, ...complaints: (string | RegExp)[]][] = [
  [{ PLATFORM: 'mux' }, 'MUX_TOKEN_ID: is missing', 'MUX_TOKEN_SECRET: is missing'],
  [
    { PLATFORM: 'peertube' },
    'PEERTUBE_BASE_URL: is missing',
    'PEERTUBE_USERNAME: is missing',
    'PEERTUBE_PASSWORD: is missing',
  ],
  [
    { PLATFORM: 'sandbox', SANDBOX_BASE_URL: 'http://x', DELETED_RETENTION: '4000d', POLL_MAX_DELAY: '25d' },
    'POLL_MAX_DELAY: must be at most 24d',
    'DELETED_RETENTION: must be at most 3650d',
  ],
  [{ PLATFORM: 'mux', MUX_TOKEN_ID: 'x', MUX_TOKEN_SECRET: '' }, 'MUX_TOKEN_SECRET: is missing'],
  [{ PLATFORM: 'sandbox' }, /^SANDBOX_BASE_URL: is missing \(.*leave PLATFORM unset outside production/],
  [
    { PLATFORMS: 'mux,api-video,vhs' },
    'MUX_TOKEN_ID: is missing',
    'MUX_TOKEN_SECRET: is missing',
    'API_VIDEO_API_KEY: is missing',
    /^PLATFORMS: vhs is not one of sandbox, mux/,
  ],
  [production, 'PLATFORM: is missing', nobody],
  [{ ...production, PLATFORM: '', API_KEYS: ' ' }, 'PLATFORM: is missing', nobody],
  [{ ...production, PLATFORM: 'mux' }, 'MUX_TOKEN_ID: is missing', 'MUX_TOKEN_SECRET: is missing', nobody],
  [
    { ...production, PLATFORM: 'cloudflare-stream', OAUTH_CLIENTS: `cms:${hash}` },
    /^CLOUDFLARE_STREAM_ACCOUNT_ID/,
    /^CLOUDFLARE_STREAM_API_TOKEN/,
    'GATEWAY_SECRET: is missing and OAUTH_CLIENTS require it (npm run secret makes one)',
  ],
  [
    { ...production, GATEWAY_SECRET: 'weak', API_KEYS: `cms:${hash}`, PLATFORM: ' ,' },
    /^GATEWAY_SECRET: secret 1 is too weak/,
    'PLATFORM: is empty: name at least one platform',
  ],
  [{ ...production, API_KEYS: 'cms' }, 'PLATFORM: is missing', /^API_KEYS: entry 1 \(cms\)/],
  [
    {
      PORT: 'x',
      POLL_FACTOR: '0',
      LOG_LEVEL: 'loud',
      UPLOAD_MAX_BYTES: '5 apples',
      SHUTDOWN_TIMEOUT: 'soon',
    },
    'PORT: expected integer',
    /^LOG_LEVEL: expected one of trace/,
    /^POLL_FACTOR: expected number to be greater or equal to 1/,
    /^UPLOAD_MAX_BYTES: expected a size/,
    /^SHUTDOWN_TIMEOUT: expected a duration/,
  ],
  [
    { WEBHOOK_NETWORKS: '10.0.0.0/8, 10.1.0.0/33,db.internal', WEBHOOK_PORTS: '443,0,https,65536' },
    'WEBHOOK_NETWORKS: entry 2, entry 3: expected an IP address or a network such as 10.0.0.0/8',
    'WEBHOOK_PORTS: entry 2, entry 3, entry 4: expected a port from 1 to 65535',
  ],
  [
    { WEBHOOK_NETWORKS: ',', WEBHOOK_PORTS: '443,' },
    /^WEBHOOK_NETWORKS: entry 1, entry 2: expected/,
    /^WEBHOOK_PORTS: entry 2: expected/,
  ],
  [{ OAUTH_ISSUER: 'https://issuer.example' }, 'OAUTH_AUDIENCE: is required with OAUTH_ISSUER'],
  [
    { OAUTH_AUDIENCE: 'x', DATABASE_URL: 'mysql://x', PLATFORM: ' ,' },
    'DATABASE_URL: expected memory:, sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE',
    'OAUTH_ISSUER: is required with OAUTH_AUDIENCE',
    'PLATFORM: is empty: name at least one platform',
  ],
]

for (const [env, ...complaints] of refused) {
  t.test(`rejected: ${JSON.stringify(env)}`, async (t) => {
    const line = (() => {
      try {
        return loadConfig(env) && 'it was accepted'
      } catch (error) {
        return (error as Error).message
      }
    })()
    t.notMatch(line, '\n')
    const said = line.split('; ')
    t.equal(said.length, complaints.length, line)
    for (const [index, complaint] of complaints.entries()) t.match(said[index], complaint)
  })
}

t.test('no error message repeats a secret', async (t) => {
  for (const name of [
    'API_KEYS',
    'GATEWAY_SECRET',
    'WEBHOOK_NETWORKS',
    'WEBHOOK_PORTS',
    'OAUTH_CLIENTS',
    'MUX_TOKEN_SECRET',
    'PEERTUBE_CHANNEL_ID',
    'PORT',
    'PUBLIC_URL',
  ]) {
    const env = { PLATFORMS: 'mux,peertube', [name]: `secret-${'x'.repeat(50)}` }
    t.throws(() => loadConfig(env))
    try {
      loadConfig(env)
    } catch (error) {
      t.notMatch((error as Error).message, 'secret-', name)
    }
  }
})

t.test('weaknesses of an accepted configuration are reported as warnings', async (t) => {
  const platform = { PLATFORM: 'mux', MUX_TOKEN_ID: 'x', MUX_TOKEN_SECRET: 'x' }
  const able = { ...platform, API_KEYS: `cms:${hash}` }
  const clients = { OAUTH_CLIENTS: `cms:${hash}` }
  const { privateKey } = generateKeyPairSync('ed25519')
  const key = { OAUTH_SIGNING_KEY: JSON.stringify(privateKey.export({ format: 'jwk' })) }
  const secret = { GATEWAY_SECRET: generateGatewaySecret() }
  const url = { PUBLIC_URL: 'https://videos.example' }
  for (const [env, ...names] of [
    [{}],
    [able],
    [{ ...able, ...url, ...secret, ...production }],
    [{ ...able, ...url, ...production }, 'GATEWAY_SECRET'],
    [{ ...able, ...secret, ...production }, 'PUBLIC_URL'],
    [{ ...able, PUBLIC_URL: '', ...secret, ...production }, 'PUBLIC_URL'],
    [{ ...able, ...clients }, 'GATEWAY_SECRET'],
    [{ ...able, ...clients, ...key }],
    [{ ...able, ...clients, ...secret }],
    [{ ...platform, ...clients, ...secret, ...production }, 'PUBLIC_URL'],
    [{ ...platform, ...clients, ...key, ...url, ...production }, 'GATEWAY_SECRET'],
    [{ ...platform, ...clients, ...key, ...url, ...secret, ...production }],
  ] as const) {
    const warnings = warningsOf(loadConfig(env as Record<string, string>))
    t.strictSame(
      warnings.map((warning) => warning.split(':')[0]),
      names,
      JSON.stringify(env),
    )
  }
})

t.test('in production, startup rejects and warns as the operations guide says', async (t) => {
  const hash = hashSecret('secret').toString('hex')
  const secret = { GATEWAY_SECRET: generateGatewaySecret() }
  const whole: Record<string, string> = {
    NODE_ENV: 'production',
    PLATFORM: 'mux',
    MUX_TOKEN_ID: 'id',
    MUX_TOKEN_SECRET: 'secret',
    API_KEYS: `cms:${hash}`,
    PUBLIC_URL: 'https://video.example.com',
    DATABASE_URL: 'sqlite:/data/gateway.db',
    ...secret,
  }
  const clients = { ...whole, API_KEYS: '', OAUTH_CLIENTS: `cms:${hash}` }
  /** Each environment lacks one thing; the row of the guide that names it, and what the start says. */
  const lacking: [row: string, env: Record<string, string>, said: RegExp | undefined][] = [
    ['PLATFORM', { ...whole, PLATFORM: '' }, /^PLATFORM: is missing$/],
    ['PLATFORM', { ...whole, MUX_TOKEN_SECRET: '' }, /^MUX_TOKEN_SECRET: is missing$/],
    ['API_KEYS', { ...whole, API_KEYS: '' }, /^API_KEYS: is missing: set it, OAUTH_CLIENTS or OAUTH_ISSUER/],
    ['PUBLIC_URL', { ...whole, PUBLIC_URL: '' }, /^PUBLIC_URL: is not set/],
    [
      'GATEWAY_SECRET',
      { ...clients, GATEWAY_SECRET: '' },
      /^GATEWAY_SECRET: is missing and OAUTH_CLIENTS require it/,
    ],
    ['GATEWAY_SECRET', { ...whole, GATEWAY_SECRET: '' }, /^GATEWAY_SECRET: is not set, so .* webhooks/],
    ['DATABASE_URL', { ...whole, DATABASE_URL: 'memory:' }, /^DATABASE_URL: is memory:/],
    ['TRUSTED_PROXIES', { ...whole, TRUSTED_PROXIES: '' }, undefined],
    ['UPLOAD_MAX_BYTES', { ...whole, UPLOAD_MAX_BYTES: '' }, undefined],
  ]
  const guide = readFileSync('docs/operations.md', 'utf8')
  const table = guide.slice(
    guide.indexOf('| variable | why | without it |'),
    guide.indexOf('Once it listens'),
  )
  const rows = new Map(
    [...table.matchAll(/^\| `(\w+)`.* \| ([^|]+) \|$/gm)].map(([, name, fate]) => [name!, fate!]),
  )
  t.strictSame([...rows.keys()], [...new Set(lacking.map(([row]) => row))], 'each row is tried')
  for (const env of [whole, clients]) t.strictSame(outcomeOf(env), { fate: 'says nothing', said: [] })
  for (const [row, env, said] of lacking) {
    const outcome = outcomeOf(env)
    if (!said) t.strictSame(outcome.said, [], row)
    else t.match(outcome.said.join('; '), said, row)
    if (said || !/warns/.test(rows.get(row)!))
      t.ok(rows.get(row)?.includes(outcome.fate), `${row} ${outcome.fate}`)
  }
})

t.test('the operations guide lists every other warning', async (t) => {
  const guide = readFileSync('docs/operations.md', 'utf8')
  const also = guide.slice(guide.indexOf('It also warns of'), guide.indexOf('Once it listens'))
  const warned = warningsOf({
    ...loadConfig({ API_KEYS: `cms:${hash}`, OAUTH_CLIENTS: `cms:${hash}` }),
    production: true,
    databaseUrl: 'memory:',
    externalIssuer: { issuerUrl: 'http://issuer.example', audience: 'x', allowHttp: true } as never,
  })
  const rows = guide.slice(guide.indexOf('| variable | why | without it |'), guide.indexOf('Once it listens'))
  for (const [name] of warned.map((line) => line.split(':')))
    t.ok(also.includes(`\`${name}`) || rows.includes(`| \`${name}\``), `${name} is on the page`)
  t.equal(warned.length, 5)
})

function outcomeOf(env: Record<string, string>): { fate: string; said: string[] } {
  try {
    const said = warningsOf(loadConfig(env))
    return { fate: said.length > 0 ? 'warns' : 'says nothing', said }
  } catch (error) {
    return { fate: 'refuses to start', said: [(error as Error).message] }
  }
}
