import { type HostileCase, json, request } from '../case.ts'

const get = (headers: string) => `GET /v1/videos HTTP/1.1\r\nhost: gateway\r\n${headers}\r\n`

/** Request lines and header fields. */
export const heads: HostileCase[] = [
  { name: 'a TLS hello', send: ['\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03'], answer: [400] },
  { name: 'the preface of HTTP/2', send: ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'], answer: [400] },
  { name: 'HTTP/0.9', send: ['GET /\r\n'], answer: [400, 408], slow: true },
  { name: 'HTTP/9.9', send: ['GET / HTTP/9.9\r\nhost: g\r\n\r\n'], answer: [400] },
  ...['0.9', '1.2', '2.0', '2', '3'].map(
    (version): HostileCase => ({
      name: `a request line with HTTP/${version}`,
      send: [`GET /v1/videos HTTP/${version}\r\nhost: g\r\n\r\n`],
      answer: [400],
    }),
  ),
  { name: 'no HTTP at all', send: ['\0\0\0\0\r\n\r\n'], answer: [400] },
  { name: 'a method nobody knows', send: ['HACK / HTTP/1.1\r\nhost: g\r\n\r\n'], answer: [400] },
  {
    name: 'CONNECT',
    send: ['CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n'],
    answer: [400],
  },
  { name: 'TRACE', send: [request('TRACE', '/v1/videos')], answer: [404, 405] },
  {
    name: 'PATCH',
    send: [request('PATCH', '/v1/videos', { 'content-type': 'application/json' }, '{}')],
    answer: [405],
  },
  { name: 'OPTIONS *', send: [request('OPTIONS', '*')], answer: [404] },
  { name: 'GET *', send: [request('GET', '*')], answer: [404] },
  {
    name: 'an upgrade to WebSocket',
    send: [
      request('GET', '/v1/videos/none', {
        connection: 'upgrade',
        upgrade: 'websocket',
        'sec-websocket-key': 'x',
      }),
    ],
    answer: [404],
  },
  {
    name: 'an upgrade to h2c',
    send: [
      request('GET', '/v1/videos/none', {
        connection: 'upgrade, http2-settings',
        upgrade: 'h2c',
        'http2-settings': 'AAMAAABk',
      }),
    ],
    answer: [404],
  },
  { name: 'no Host', send: ['GET /v1/videos HTTP/1.1\r\n\r\n'], answer: [400] },
  { name: 'two Hosts', send: [get('host: other\r\n')], answer: [400] },
  ...[
    'a b',
    'a/b',
    'a@b',
    'a\\b',
    'a,b',
    '<a>',
    'a#b',
    'a?b',
    '%',
    '%zz',
    'a:b',
    'a:99999',
    'a:1:2',
    '::1',
    '[::1',
    '[a]',
    '[::1]x',
    'a\xff',
    '',
  ].map(
    (host): HostileCase => ({
      name: `the Host ${JSON.stringify(host)}`,
      send: [`GET /health/live HTTP/1.1\r\nhost: ${host}\r\n\r\n`],
      answer: [400],
    }),
  ),
  ...[
    'a',
    'video_gateway',
    'a.b.:3000',
    '127.0.0.1:3000',
    '[::1]:3000',
    '[::ffff:1.2.3.4]',
    'xn--4ca.example',
    'a:',
  ].map(
    (host): HostileCase => ({
      name: `the Host ${JSON.stringify(host)}, which is one`,
      send: [`GET /health/live HTTP/1.1\r\nhost: ${host}\r\n\r\n`],
      answer: [200],
    }),
  ),
  { name: 'a header of 100 KB', send: [get(`x: ${'a'.repeat(100_000)}\r\n`)], answer: [431] },
  {
    name: 'a header that never ends',
    send: [`GET / HTTP/1.1\r\nx: `, { drip: 'a'.repeat(4096), every: 5 }],
    answer: [431, 'close'],
  },
  { name: '20000 headers', send: [get('a: b\r\n'.repeat(20_000))], answer: [431] },
  {
    name: '3000 short headers, then a token',
    send: [get(`${'a:b\r\n'.repeat(2500)}authorization: Bearer nonsense\r\n`)],
    answer: [401, 431],
  },
  { name: 'a request line of 100 KB', send: [request('GET', `/${'a'.repeat(100_000)}`)], answer: [431] },
  { name: 'a NUL in a header', send: [get('x: a\0b\r\n')], answer: [400] },
  { name: 'a NUL in a header’s name', send: [get('x\0y: a\r\n')], answer: [400] },
  { name: 'a header folded onto the next line', send: [get('x: a\r\n b\r\n')], answer: [400, 401] },
  { name: 'a bare CR in a header', send: [get('x: a\rb: c\r\n')], answer: [400] },
  { name: 'lines ended by LF alone', send: ['GET / HTTP/1.1\nhost: g\n\n'], answer: [400] },
  { name: 'a header without a name', send: [get(': a\r\n')], answer: [400] },
  { name: '__proto__ as a header', send: [get('__proto__: a\r\nconstructor: b\r\n')], answer: [401] },
  {
    name: 'two tokens',
    send: [get('authorization: Bearer $KEY\r\nauthorization: Bearer $KEY\r\n')],
    answer: [401],
  },
  { name: 'a token with a NUL in base64', send: [get('authorization: Basic AAAA\r\n')], answer: [401] },
  { name: 'a token of 10 KB', send: [get(`authorization: Bearer ${'a.'.repeat(5000)}\r\n`)], answer: [401] },
  {
    name: 'a request id that would forge the log',
    send: [request('GET', '/v1/videos/none', { 'x-request-id': '{"level":60}' })],
    answer: [404],
  },
  { name: 'a type that is no type', send: [json('{}', { 'content-type': ';;;,' })], answer: [415] },
  { name: 'a type of 8 KB', send: [json('{}', { 'content-type': `a/${'b'.repeat(8000)}` })], answer: [415] },
  {
    name: 'a charset nobody knows',
    send: [json('{"title":"\xff\xfe"}', { 'content-type': 'application/json; charset=utf-16' })],
    answer: [415],
  },
  {
    name: 'an encoding nobody reads',
    send: [json('\x1f\x8b\x08\0\0', { 'content-encoding': 'gzip' })],
    answer: [415],
  },
  {
    name: 'an expectation nobody knows',
    send: [request('GET', '/v1/videos/none', { expect: 'the-unexpected' })],
    answer: [404],
  },
  {
    name: 'an empty Idempotency-Key',
    send: [json('{"title":"x"}', { 'idempotency-key': '' })],
    answer: [400],
  },
  {
    name: 'an Idempotency-Key of 5 KB',
    send: [json('{"title":"x"}', { 'idempotency-key': 'k'.repeat(5000) })],
    answer: [400],
  },
]
