import { once } from 'node:events'
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, createServer, type LookupFunction } from 'node:net'
import t, { type Test } from 'tap'
import { request } from 'undici'
import { createAddressRules, isLoopback } from '../../src/outbound/addresses.ts'
import { checkTarget, createGuardedAgent, type DialRules } from '../../src/outbound/guard.ts'

const production: DialRules = {
  addresses: createAddressRules(),
  ports: new Set([443, 8443]),
  allowsLoopback: false,
}
const development: DialRules = { ...production, allowsLoopback: true }
const notAllowed = { name: 'TargetNotAllowedError' }

const permitted = [
  '1.1.1.1',
  '8.8.8.8',
  '100.63.255.255',
  '100.128.0.0',
  '172.15.255.255',
  '172.32.0.0',
  '192.167.255.255',
  '198.17.255.255',
  '198.20.0.0',
  '223.255.255.255',
  '2606:4700:4700::1111',
  '2a00:1450:4001:82a::200e',
  '2001:200::1',
]
const refused = [
  ...[
    '0.0.0.0',
    '0.1.2.3',
    '10.0.0.1',
    '10.255.255.255',
    '100.64.0.1',
    '100.100.100.200',
    '127.0.0.1',
    '127.1.2.3',
  ],
  ...[
    '169.254.169.254',
    '172.16.0.1',
    '172.31.255.255',
    '192.0.0.192',
    '192.0.2.1',
    '192.88.99.1',
    '192.168.1.1',
  ],
  ...[
    '198.18.0.1',
    '198.19.255.255',
    '198.51.100.7',
    '203.0.113.9',
    '224.0.0.1',
    '239.255.255.250',
    '240.0.0.1',
  ],
  '255.255.255.255',
  ...[
    '::',
    '::1',
    '0:0:0:0:0:0:0:1',
    '::ffff:127.0.0.1',
    '::ffff:7f00:1',
    '::ffff:10.0.0.1',
    '::ffff:8.8.8.8',
  ],
  ...[
    '::127.0.0.1',
    '::8.8.8.8',
    '64:ff9b::7f00:1',
    '64:ff9b::8.8.8.8',
    '64:ff9b:1::a00:1',
    '100::1',
    '2002:7f00:1::',
  ],
  ...[
    '2002:a00:1::1',
    '2001::1',
    '2001:0:4136:e378:8000:63bf:3fff:fdd2',
    '2001:db8::1',
    '2001:20::1',
    '3fff::1',
  ],
  ...[
    'fc00::1',
    'fd00:ec2::254',
    'fe80::1',
    'fe80::1%eth0',
    '2606:4700::1%eth0',
    'fec0::1',
    'ff02::1',
    '4000::1',
  ],
  ...['', 'localhost', '1.1.1', '0x7f.1', '1.1.1.1/32', '[::1]', ' 8.8.8.8', '08.8.8.8', 'example.com'],
]

t.test('only public addresses are permitted', async (t) => {
  const rules = createAddressRules()
  for (const address of permitted) t.ok(rules.permits(address), address)
  for (const address of refused) t.notOk(rules.permits(address), address)

  const operator = createAddressRules(['10.0.0.0/8', ' fd00::/8', '64:ff9b::/96', '192.168.1.7'])
  for (const address of ['10.1.2.3', '::ffff:10.1.2.3', 'fd00::1', '64:ff9b::1', '192.168.1.7', ...permitted])
    t.ok(operator.permits(address), `${address}, as the operator says`)
  for (const address of ['11.0.0.1', '192.168.1.8', 'fc00::1', '127.0.0.1', '169.254.169.254', '10.1.2'])
    t.equal(
      operator.permits(address),
      address === '11.0.0.1',
      `${address}, of which the operator says nothing`,
    )
  t.ok(['127.0.0.1', '127.9.9.9', '::1', '::ffff:127.0.0.1'].every(isLoopback))
  t.notOk(['128.0.0.1', '::2', 'localhost', ''].some(isLoopback))
})

t.test('a URL is checked in every spelling', async (t) => {
  const cases: [url: string, production: boolean, development?: boolean][] = [
    ['https://example.com/hook', true],
    ['HTTPS://EXAMPLE.COM', true],
    ['https://example.com:8443/a?b=c', true],
    ['https://1.1.1.1/', true],
    ['https://[2606:4700:4700::1111]/', true],
    ['https://bücher.example/', true],
    ['http://example.com/', false],
    ['http://1.1.1.1/', false],
    ['https://example.com:22/', false],
    ['https://example.com:80/', false],
    ['https://example.com:0/', false],
    ['https://user@example.com/', false],
    ['https://user:secret@example.com/', false],
    ['https://:secret@example.com/', false],
    ['https://example.com@127.0.0.1/', false],
    ['https://example.com/#part', false],
    ['https://example.com./', true],
    [`https://${'a'.repeat(63)}.example/`, true],
    [`https://${'a'.repeat(64)}.example/`, false],
    ['https://a..b/', false],
    ['https://.example/', false],
    ['https://example../', false],
    ['https:example.com', false],
    ['//example.com/', false],
    ['example.com', false],
    ['ftp://example.com/', false],
    ['file:///etc/passwd', false],
    ['javascript:alert(1)', false],
    ['data:text/plain,x', false],
    [' https://example.com/', false],
    ['', false],
    [`https://example.com/${'a'.repeat(2_048)}`, false],
    // Loopback, as URLs spell it.
    ...[
      ...[
        '127.0.0.1',
        '127.1',
        '2130706433',
        '0x7f000001',
        '0177.0.0.1',
        '0x7f.0.0.1',
        '127.0.0.1.',
        '①②⑦.⓪.⓪.①',
      ],
      ...[
        '%31%32%37.0.0.1',
        '[::1]',
        '[0:0:0:0:0:0:0:1]',
        '[::ffff:127.0.0.1]',
        '[::ffff:7f00:1]',
        '127.255.255.254',
      ],
    ].flatMap((host): [string, boolean, boolean][] => [
      [`https://${host}/`, false, true],
      [`http://${host}:4000/`, false, true],
    ]),
    ['http://localhost:4000/', false, true],
    ['http://LOCALHOST:4000/', false, true],
    ['http://a.localhost/', false, true],
    ['http://localhost.example.com/', false],
    ['http://notlocalhost/', false],
    // Others.
    ...[
      ...[
        '169.254.169.254',
        '0xa9fea9fe',
        '10.0.0.1',
        '167772161',
        '012.0.0.1',
        '0',
        '0.0.0.0',
        '192.168.0.1',
      ],
      ...[
        '[fd00::1]',
        '[fe80::1]',
        '[::]',
        '[::ffff:169.254.169.254]',
        '[64:ff9b::a9fe:a9fe]',
        '[2002:a9fe:a9fe::]',
      ],
      ...['[ff02::1]', '255.255.255.255', '224.0.0.1', '100.100.100.200'],
    ].map((host): [string, boolean] => [`https://${host}/`, false]),
  ]
  for (const [url, inProduction, inDevelopment = inProduction] of cases)
    for (const [rules, expected] of [
      [production, inProduction],
      [development, inDevelopment],
    ] as const) {
      const name = `${url.slice(0, 60)} ${rules === production ? 'in production' : 'in development'}`
      if (expected) t.doesNotThrow(() => checkTarget(url, rules), name)
      else t.throws(() => checkTarget(url, rules), notAllowed, name)
    }
})

/** Counts the connections to it. */
async function listen(t: Test, host: string, port = 0) {
  let connections = 0
  const server = createServer((socket) => {
    connections += 1
    socket.on('error', () => {}).end('HTTP/1.1 204 No Content\r\n\r\n')
  })
  server.listen(port, host)
  await once(server, 'listening')
  t.teardown(() => server.close())
  return { port: (server.address() as AddressInfo).port, connections: () => connections }
}

/** A resolver whose answers are the next of these; the last one stays. */
function resolver(...answers: string[][]): LookupFunction {
  let asked = 0
  return (_hostname, { all }, callback) => {
    const found = answers[Math.min(asked++, answers.length - 1)]!.map((address) => ({
      address,
      family: address.includes(':') ? 6 : 4,
    }))
    setImmediate(() => (all ? callback(null, found) : callback(null, found[0]!.address, found[0]!.family)))
  }
}

t.test('the address that is checked is the one that is called', async (t) => {
  const inside = await listen(t, '127.0.0.1')
  const outside = await listen(t, '127.0.0.2', inside.port)
  const { port } = inside
  const rules: DialRules = {
    addresses: createAddressRules(['127.0.0.2']),
    ports: new Set([port]),
    allowsLoopback: false,
  }
  const call = async (lookup: LookupFunction, url = `https://receiver.example:${port}/`, given = rules) => {
    const dispatcher = createGuardedAgent(given, lookup)
    t.teardown(() => dispatcher.destroy())
    return () => request(url, { dispatcher, method: 'POST', body: '{}' })
  }

  await t.test('a name that resolves to another address the second time is checked again', async (t) => {
    const again = await call(resolver(['127.0.0.2'], ['127.0.0.1']))
    // The listener speaks no TLS: what counts is where the connection went.
    const error = await again().catch((error: Error) => error)
    t.not((error as Error).name, notAllowed.name)
    t.equal(outside.connections(), 1)
    checkTarget(`https://receiver.example:${port}/`, rules)
    await t.rejects(again(), notAllowed)
    t.equal(inside.connections(), 0)
  })

  await t.test('of several addresses only the permitted ones are called', async (t) => {
    const before = outside.connections()
    await t.rejects((await call(resolver(['127.0.0.1', '::1', '127.0.0.2', 'fe80::1'])))())
    t.equal(outside.connections(), before + 1)
    for (const address of [
      '127.0.0.1',
      '10.0.0.1',
      '169.254.169.254',
      '::1',
      '::ffff:127.0.0.2x',
      '::ffff:7f00:1',
    ])
      await t.rejects((await call(resolver([address])))(), notAllowed, address)
    await t.rejects((await call(resolver(['127.0.0.1', '::1'])))(), notAllowed)
    await t.rejects((await call(resolver([])))(), notAllowed, 'none at all')
    t.equal(inside.connections(), 0)
  })

  await t.test('literal addresses, ports and schemes are checked when connecting', async (t) => {
    const never: LookupFunction = () => t.fail('a literal address is not looked up')
    for (const url of [
      `https://127.0.0.1:${port}/`,
      `https://2130706433:${port}/`,
      `https://[::1]:${port}/`,
      `https://[::ffff:127.0.0.1]:${port}/`,
      `http://127.0.0.1:${port}/`,
      `http://127.0.0.2:${port}/`,
      `http://receiver.example:${port}/`,
      'https://receiver.example/',
      'https://receiver.example:1/',
    ])
      await t.rejects((await call(never, url))(), notAllowed, url)
    t.equal(inside.connections(), 0)
  })

  await t.test('a name that cannot be resolved is unreachable', async (t) => {
    const broken: LookupFunction = (_host, _options, callback) =>
      callback(Object.assign(new Error('no such name'), { code: 'ENOTFOUND' }), [])
    await t.rejects((await call(broken))(), { code: 'ENOTFOUND' })
  })

  await t.test('http is not allowed to a local name that resolves elsewhere', async (t) => {
    const given = { ...development, addresses: createAddressRules(['192.0.2.0/24']) }
    await t.rejects((await call(resolver(['192.0.2.1']), 'http://localhost:9/', given))(), notAllowed)
  })
})

t.test('redirects are not followed, and response headers are limited', async (t) => {
  const server = createHttpServer((incoming, response) => {
    if (incoming.url === '/moved') response.writeHead(302, { location: 'http://169.254.169.254/' }).end()
    else if (incoming.url === '/headers') response.writeHead(200, { 'x-long': 'a'.repeat(20_000) }).end()
    else response.writeHead(204).end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const dispatcher = createGuardedAgent(development)
  t.teardown(() => dispatcher.destroy())
  for (const host of ['localhost', '127.0.0.1', '[::ffff:127.0.0.1]'])
    t.equal((await request(`http://${host}:${port}/`, { dispatcher })).statusCode, 204, host)
  t.equal((await request(`http://localhost:${port}/moved`, { dispatcher })).statusCode, 302)
  await t.rejects(request(`http://localhost:${port}/headers`, { dispatcher }), {
    code: 'UND_ERR_HEADERS_OVERFLOW',
  })
})
