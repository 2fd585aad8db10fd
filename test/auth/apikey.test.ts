import { spawnSync } from 'node:child_process'
import t from 'tap'
import { allScopes, findBySecret, parseCredentials } from '../../src/auth/credentials.ts'

const script = new URL('../../scripts/apikey.ts', import.meta.url).pathname

function run(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...args], { encoding: 'utf8' })
  const [, key = ''] = /(vgk_\S+)/.exec(stdout) ?? []
  const [, entry = ''] = /API_KEYS=(\S+)/.exec(stdout) ?? []
  return { status, stdout, stderr, key, entry }
}

t.test('prints a key once, and its entry for the configuration', async (t) => {
  const { status, stdout, key, entry } = run('cms')
  t.equal(status, 0)
  t.equal(stdout.split(key).length, 2, 'once')
  t.match(entry, /^cms:[0-9a-f]{64}$/)
  t.match(findBySecret(parseCredentials(entry), key), { name: 'cms', scopes: [...allScopes] })
  t.not(run('cms').key, key)
})

t.test('takes scopes separated by plus signs, commas or spaces', async (t) => {
  for (const scopes of [
    ['videos:read+videos:write'],
    ['videos:read,videos:write'],
    ['videos:read', 'videos:write'],
    ['videos:read videos:write'],
  ]) {
    const { entry, key } = run('cms', ...scopes)
    t.match(findBySecret(parseCredentials(entry), key), { scopes: ['videos:read', 'videos:write'] })
  }
})

t.test('invalid usage is one line and status 2', async (t) => {
  const cases: [string[], RegExp][] = [
    [[], /^usage: npm run apikey -- NAME \[scopes\]/],
    [['--help'], /^usage: /],
    [['a:b'], /neither a colon nor a comma/],
    [['a,b'], /neither a colon nor a comma/],
    [['two words'], /the name must be 1 to 40 printable/],
    [['cms', 'videos:everything'], /unknown scope: use videos:read/],
  ]
  for (const [args, message] of cases) {
    const { status, stdout, stderr } = run(...args)
    t.strictSame([status, stdout], [2, ''])
    t.match(stderr, message)
    t.equal(stderr.trimEnd().split('\n').length, 1)
  }
})
