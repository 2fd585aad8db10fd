import t from 'tap'
import {
  allScopes,
  findByName,
  findBySecret,
  generateSecret,
  hashSecret,
  parseCredentials,
} from '../../src/auth/credentials.ts'

const hex = (secret: string) => hashSecret(secret).toString('hex')

t.test('parses entries with and without scopes, and ignores white space', async (t) => {
  const credentials = parseCredentials(
    `cms:${hex('a')} ,\n  viewer : ${hex('b').toUpperCase()} : videos:delete + videos:read + videos:read `,
  )
  t.strictSame(credentials, [
    { name: 'cms', secretHash: hashSecret('a'), scopes: [...allScopes] },
    { name: 'viewer', secretHash: hashSecret('b'), scopes: ['videos:read', 'videos:delete'] },
  ])
  t.strictSame(parseCredentials(''), [])
  t.strictSame(parseCredentials(' \n'), [])
})

t.test('rejects an invalid entry by position and name, and never repeats a hash', async (t) => {
  const good = `cms:${hex('a')}`
  const cases: [string, string][] = [
    [`${good},`, 'entry 2: the name'],
    [`${good},:${hex('b')}`, 'entry 2: the name'],
    [hex('b'), 'entry 1: the name'],
    [`${hex('b')}:cms`, 'entry 1: the name'],
    [`two words:${hex('b')}`, 'entry 1: the name'],
    [`${good},other`, 'entry 2 (other): expected NAME:SHA256'],
    [`${good},other:`, 'entry 2 (other): expected NAME:SHA256'],
    [`other:${hex('b').slice(1)}`, 'entry 1 (other): expected NAME:SHA256'],
    [`other:${hex('b')}0`, 'entry 1 (other): expected NAME:SHA256'],
    [`other:${hex('b').replace(/./, 'g')}`, 'entry 1 (other): expected NAME:SHA256'],
    [`other:${generateSecret('vgk_')}`, 'entry 1 (other): expected NAME:SHA256'],
    [`other:${hex('b')}:videos:everything`, 'entry 1 (other): unknown scope'],
    [`other:${hex('b')}:`, 'entry 1 (other): unknown scope'],
    [`other:${hex('b')}:${hex('b')}`, 'entry 1 (other): unknown scope'],
    [`other:${hex('b')}:videos:read+`, 'entry 1 (other): unknown scope'],
    [`${good}, ${good}`, "the name 'cms' is used twice"],
  ]
  for (const [text, message] of cases) {
    try {
      parseCredentials(text)
      t.fail(`not refused: ${message}`)
    } catch (error) {
      const said = (error as Error).message
      t.ok(said.startsWith(message), said)
      t.notOk(/[0-9a-f]{40}|vgk_/i.test(said), 'no hash in it')
    }
  }
})

t.test('finds a credential at any position', async (t) => {
  const credentials = parseCredentials(
    ['a', 'b', 'c'].map((name) => `${name}:${hex(`secret-${name}`)}`).join(','),
  )
  for (const name of ['a', 'b', 'c']) {
    t.equal(findBySecret(credentials, `secret-${name}`)?.name, name)
    t.equal(findByName(credentials, name, `secret-${name}`)?.name, name)
  }
})

t.test(
  'finds no credential by a wrong name, a wrong or another’s secret, a hash or an empty text',
  async (t) => {
    const credentials = parseCredentials(`a:${hex('secret-a')},b:${hex('secret-b')}`)
    for (const secret of ['', 'secret-', 'secret-a ', 'SECRET-A', hex('secret-a')]) {
      t.equal(findBySecret(credentials, secret), undefined)
      t.equal(findByName(credentials, 'a', secret), undefined)
    }
    t.equal(findByName(credentials, 'a', 'secret-b'), undefined)
    t.equal(findByName(credentials, 'nobody', 'secret-a'), undefined)
    t.equal(findByName(credentials, '', 'secret-a'), undefined)
    t.equal(findBySecret([], 'secret-a'), undefined)
  },
)

t.test('generates secrets of 256 random bits', async (t) => {
  const [one, other] = [generateSecret('vgk_'), generateSecret('vgk_')]
  t.match(one, /^vgk_[\w-]{43}$/)
  t.not(one, other)
})
