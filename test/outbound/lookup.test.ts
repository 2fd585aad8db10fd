import { lookup as systemLookup } from 'node:dns'
import { promisify } from 'node:util'
import t from 'tap'
import { createNameLookup } from '../../src/outbound/lookup.ts'
import { startNameServer } from '../support/name-server.ts'

const { address, queries } = await startNameServer(t, (name, count) => {
  if (name === 'one.example') return ['192.0.2.1']
  if (name === 'two.example') return ['192.0.2.1', '192.0.2.2']
  if (name === 'changing.example') return [`192.0.2.${count + 1}`]
  if (name === 'alias.invalid') return ['alias.invalid']
  return name.startsWith('silent') ? undefined : []
})
const lookup = createNameLookup([address])
const find = (name: string) =>
  new Promise((resolve, reject) =>
    lookup(name, { all: true }, (error, found) => (error ? reject(error) : resolve(found))),
  )
const v4 = (...addresses: string[]) => addresses.map((one) => ({ address: one, family: 4 }))

t.test('a name resolves to the addresses that its name server returns', async (t) => {
  t.strictSame(await find('one.example'), v4('192.0.2.1'))
  t.strictSame(await find('two.example'), v4('192.0.2.1', '192.0.2.2'))
  t.strictSame(await find('changing.example'), v4('192.0.2.1'))
  t.strictSame(await find('changing.example'), v4('192.0.2.2'), 'resolved at each lookup')
  t.match(await find('localhost'), [{ address: /^(127\.0\.0\.1|::1)$/ }])
  t.notOk(queries.has('localhost'))
  for (const name of ['unknown.invalid', 'alias.invalid'])
    await t.rejects(find(name), { code: /^(ENOTFOUND|ENODATA|EAI_AGAIN)$/ }, name)
  await t.rejects(find('a..b'), { code: /^(EBADNAME|ENOTFOUND|EAI_\w+)$/ })
})

t.test('names whose server does not respond do not delay other lookups', async (t) => {
  const silent = Array.from({ length: 60 }, (_, index) => find(`silent-${index}.example`))
  let settled = 0
  for (const one of silent) one.catch(() => (settled += 1))
  t.strictSame(await find('one.example'), v4('192.0.2.1'))
  t.ok(await promisify(systemLookup)('localhost'), 'nor one of the system, which platforms use')
  t.equal(settled, 0)
  for (const one of silent) await t.rejects(one, { code: 'ETIMEOUT', syscall: 'queryA' })
})
