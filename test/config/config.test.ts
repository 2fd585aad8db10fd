import t from 'tap'
import { hashSecret } from '../../src/auth/credentials.ts'
import { loadConfig } from '../../src/config/config.ts'
import { warningsOf } from '../../src/config/warnings.ts'

const hash = hashSecret('secret').toString('hex')
const nobody = 'API_KEYS: is missing, and so are OAUTH_CLIENTS and OAUTH_ISSUER'
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
  [{ OAUTH_ISSUER: 'https://issuer.example' }, 'OAUTH_AUDIENCE: is needed with OAUTH_ISSUER'],
  [
    { OAUTH_AUDIENCE: 'x', DATABASE_URL: 'mysql://x', PLATFORM: ' ,' },
    'DATABASE_URL: expected memory:, sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE',
    'OAUTH_ISSUER: is needed with OAUTH_AUDIENCE',
    'PLATFORM: names no platform',
  ],
]

for (const [env, ...complaints] of refused) {
  t.test(`refused: ${JSON.stringify(env)}`, async (t) => {
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

t.test('no secret is repeated', async (t) => {
  for (const name of [
    'API_KEYS',
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

t.test('what an accepted configuration lacks', async (t) => {
  const platform = { PLATFORM: 'mux', MUX_TOKEN_ID: 'x', MUX_TOKEN_SECRET: 'x' }
  const able = { ...platform, API_KEYS: `cms:${hash}` }
  const clients = { OAUTH_CLIENTS: `cms:${hash}` }
  const key = { OAUTH_SIGNING_KEY: '{}' }
  const url = { PUBLIC_URL: 'https://videos.example' }
  for (const [env, ...names] of [
    [{}],
    [able],
    [{ ...able, ...url, ...production }],
    [{ ...able, ...production }, 'PUBLIC_URL'],
    [{ ...able, PUBLIC_URL: '', ...production }, 'PUBLIC_URL'],
    [{ ...able, ...clients }, 'OAUTH_SIGNING_KEY'],
    [{ ...able, ...clients, ...key }],
    [{ ...platform, ...clients, ...production }, 'PUBLIC_URL', 'OAUTH_SIGNING_KEY'],
    [{ ...platform, ...clients, ...key, ...url, ...production }],
  ] as const) {
    const warnings = warningsOf(loadConfig(env as Record<string, string>))
    t.strictSame(
      warnings.map((warning) => warning.split(':')[0]),
      names,
      JSON.stringify(env),
    )
  }
})
