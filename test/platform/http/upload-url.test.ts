import t from 'tap'
import { publicUrl, trustedUrl } from '../../../src/platform/http/upload-url.ts'

t.test('upload URLs are accepted on the platform’s own hosts only', async (t) => {
  const hosts = ['storage.example', '*.up.example']
  const trust = (base: string) => (given: string) => trustedUrl('acme', given, new URL(base), hosts)
  const vendor = trust('https://api.example/v1/')
  const allowed = {
    'https://api.example/put/1': 'https://api.example/put/1',
    'https://storage.example/1?sig=2': 'https://storage.example/1?sig=2',
    'https://eu.up.example:8443/1': 'https://eu.up.example:8443/1',
    '//storage.example/1': 'https://storage.example/1',
    'put/1': 'https://api.example/v1/put/1',
  }
  for (const [given, used] of Object.entries(allowed)) t.equal(vendor(given), used)
  const refused = [
    '',
    'http://api.example/put/1',
    'http://storage.example/1',
    'https://up.example/1',
    'https://evilup.example/1',
    'https://storage.example.evil.example/1',
    'https://user@storage.example/1',
    'https://:word@storage.example/1',
    'https://user:word@api.example/1',
    '//:word@storage.example/1',
    'https://storage.example/1\r\nx',
    'https://storage.example/\0',
    'https://storage.example/\ud800',
    'https://stor\tage.example/1',
    ' https://storage.example/1',
    `https://storage.example/${'x'.repeat(5_000)}`,
    `put/${'é'.repeat(2_000)}`,
    'https://api.example:444/1',
    'http://127.0.0.1/',
    'https://127.0.0.1/',
    'http://[::1]/',
    'http://169.254.169.254/latest',
    'file:///etc/passwd',
    'data:,x',
    'https://',
  ]
  for (const given of refused) t.throws(() => vendor(given), { code: 'platform-protocol-error' }, given)

  const double = trust('http://127.0.0.1:4000')
  t.equal(double('http://127.0.0.1:4001/put'), 'http://127.0.0.1:4001/put', 'another port of a double')
  for (const given of ['http://127.0.0.2:4001/', 'http://10.0.0.1/', 'http://localhost:4001/'])
    t.throws(() => double(given), { code: 'platform-protocol-error' }, given)
  const inside = trust('http://10.0.0.1:4000')
  t.throws(() => inside('http://10.0.0.1:4001/'), { code: 'platform-protocol-error' }, 'no loopback')
})

t.test('only absolute http(s) URLs without credentials are passed on to clients', async (t) => {
  const from = (base: string) => (given: string) => publicUrl('acme', given, new URL(base))
  const vendor = from('https://api.example/v1/')
  const allowed = {
    'https://cdn.example/a.m3u8': 'https://cdn.example/a.m3u8',
    'HTTPS://CDN.example:8443/a%20b': 'https://cdn.example:8443/a%20b',
    'https://cdn.example/a?token=b#c': 'https://cdn.example/a?token=b#c',
    'https://cdn.example/é': 'https://cdn.example/%C3%A9',
    'https://cdn.example': 'https://cdn.example/',
    'https://cdn.example/a/../b': 'https://cdn.example/b',
  }
  for (const [given, passed] of Object.entries(allowed)) t.equal(vendor(given), passed)
  const rejected = [
    '',
    'a.m3u8',
    '/a.m3u8',
    '//cdn.example/a.m3u8',
    'http://cdn.example/a.m3u8',
    'javascript:alert(1)',
    'data:text/html,x',
    'file:///a',
    'blob:https://cdn.example/1',
    'wss://cdn.example/',
    'https:cdn.example',
    'https://',
    'https:///a',
    'https://user@cdn.example/',
    'https://:word@cdn.example/',
    'https://cdn.example/a\r\nb',
    'https://cdn.example/a\0',
    'https://cdn.example/a b',
    'https://cdn.example/\ud800',
    'https://cdn.example:99999/',
    `https://cdn.example/${'x'.repeat(5_000)}`,
    `https://cdn.example/${'é'.repeat(2_000)}`,
  ]
  for (const given of rejected)
    t.throws(() => vendor(given), { code: 'platform-protocol-error' }, given.slice(0, 60))
  t.equal(from('http://10.0.0.1/')('http://cdn.example/a'), 'http://cdn.example/a', 'a base without TLS')
  t.equal(from('http://10.0.0.1/')('https://cdn.example/a'), 'https://cdn.example/a')
})
