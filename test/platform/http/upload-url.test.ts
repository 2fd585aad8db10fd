import t from 'tap'
import { trustedUrl } from '../../../src/platform/http/upload-url.ts'

t.test('where uploads may go', async (t) => {
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
