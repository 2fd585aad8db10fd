import { authorization, content, type HostileCase, json, mp4, request } from '../case.ts'

const smuggled = 'GET /v1/videos HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer $KEY\r\n\r\n'
const type = { 'content-type': 'application/json' }
const good = '{"title":"x"}'
const chunkedHead = (extra = {}) =>
  request('POST', '/v1/videos', { ...type, 'transfer-encoding': 'chunked', ...extra })
const putChunked = () => content('', { 'transfer-encoding': 'chunked' })

/** Where a body ends: everything by which two servers on the way could come to differ (RFC 9112 §6, §11.2). */
export const framing: HostileCase[] = [
  { name: 'CL.TE', send: [chunkedHead({ 'content-length': 6 }), `0\r\n\r\n${smuggled}`], answer: [400] },
  {
    name: 'TE.CL',
    send: [chunkedHead({ 'content-length': 4 }), `d\r\n${good}\r\n0\r\n\r\n${smuggled}`],
    answer: [400],
  },
  {
    name: 'two lengths that differ',
    send: [
      `POST /v1/videos HTTP/1.1\r\nhost: g\r\nauthorization: ${authorization}\r\ncontent-type: application/json\r\ncontent-length: 13\r\ncontent-length: 0\r\n\r\n${good}${smuggled}`,
    ],
    answer: [400],
  },
  {
    name: 'two lengths in one field',
    send: [json(good, { 'content-length': '13, 0' })],
    answer: [400],
  },
  {
    name: 'the same length twice in one field',
    send: [json(good, { 'content-length': '13, 13' })],
    answer: [400],
  },
  { name: 'a negative length', send: [json(good, { 'content-length': '-1' })], answer: [400] },
  { name: 'a length with a sign', send: [json(good, { 'content-length': '+13' })], answer: [400] },
  { name: 'a length in hex', send: [json(good, { 'content-length': '0xd' })], answer: [400] },
  { name: 'a length with an exponent', send: [json(good, { 'content-length': '1e1' })], answer: [400] },
  { name: 'an empty length', send: [json(good, { 'content-length': '' })], answer: [400] },
  {
    name: 'a length beyond 64 bits',
    send: [json(good, { 'content-length': '9'.repeat(30) })],
    answer: [400],
  },
  {
    name: 'content of a length beyond 2^53',
    send: [content(mp4, { 'content-length': '9007199254740993' })],
    answer: [413],
  },
  {
    name: 'a transfer coding nobody knows',
    send: [json(good, { 'transfer-encoding': 'xchunked' })],
    answer: [400],
  },
  {
    name: 'chunked, but not last',
    send: [json(good, { 'transfer-encoding': 'chunked, identity' })],
    answer: [400],
  },
  {
    name: 'chunked twice',
    send: [json(`d\r\n${good}\r\n0\r\n\r\n`, { 'transfer-encoding': 'chunked, chunked' })],
    answer: [400],
  },
  ...[
    'gzip, chunked',
    'deflate, chunked',
    'identity, chunked',
    'gzip',
    'identity',
    ',chunked',
    'chunked,',
    'chunked;a=b',
    '"chunked"',
    '',
  ].map(
    (coding): HostileCase => ({
      name: `the transfer coding ${JSON.stringify(coding)}`,
      send: [json(`d\r\n${good}\r\n0\r\n\r\n`, { 'transfer-encoding': coding })],
      answer: [400],
    }),
  ),
  {
    name: 'compressed content in chunks',
    send: [content('', { 'transfer-encoding': 'gzip, chunked' }), `d4\r\n${mp4}\r\n0\r\n\r\n`],
    answer: [400],
  },
  {
    name: 'a request behind an odd coding',
    send: [`${json(`d\r\n${good}\r\n0\r\n\r\n`, { 'transfer-encoding': 'gzip, chunked' })}${smuggled}`],
    answer: [400],
  },
  {
    name: 'a request behind two Hosts',
    send: [`${request('GET', '/v1/videos', { host: 'a\r\nhost: b' })}${smuggled}`],
    answer: [400],
  },
  {
    name: 'two Transfer-Encoding headers',
    send: [
      `POST /v1/videos HTTP/1.1\r\nhost: g\r\nauthorization: ${authorization}\r\ncontent-type: application/json\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\nd\r\n${good}\r\n0\r\n\r\n`,
    ],
    answer: [400],
  },
  {
    name: 'capital letters in chunked',
    send: [json(`d\r\n${good}\r\n0\r\n\r\n`, { 'transfer-encoding': 'Chunked' })],
    answer: [201],
  },
  {
    name: 'chunked in HTTP/1.0',
    send: [
      `POST /v1/videos HTTP/1.0\r\nauthorization: ${authorization}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nd\r\n${good}\r\n0\r\n\r\n`,
    ],
    answer: [400],
  },
  {
    name: 'a tab before chunked',
    send: [`${chunkedHead({ 'transfer-encoding': '\x0bchunked' })}0\r\n\r\n`],
    answer: [400],
  },
  {
    name: 'a space before the colon',
    send: [`POST /v1/videos HTTP/1.1\r\nhost: g\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n${smuggled}`],
    answer: [400],
  },
  {
    name: 'chunked in HTTP/1.0 with a length',
    send: [`POST /v1/videos HTTP/1.0\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`],
    answer: [400],
  },
  {
    name: 'a chunk size that is no number',
    send: [chunkedHead(), `zz\r\n${good}\r\n0\r\n\r\n`],
    answer: [400],
  },
  {
    name: 'a chunk size beyond 64 bits',
    send: [chunkedHead(), `${'f'.repeat(20)}\r\n${good}`],
    answer: [400],
  },
  { name: 'a negative chunk size', send: [chunkedHead(), `-d\r\n${good}\r\n0\r\n\r\n`], answer: [400] },
  { name: 'a chunk longer than its size', send: [chunkedHead(), `2\r\n${good}\r\n0\r\n\r\n`], answer: [400] },
  { name: 'a chunk ended by a bare LF', send: [chunkedHead(), `d\n${good}\n0\n\n`], answer: [400] },
  {
    name: 'an endless chunk extension',
    send: [chunkedHead(), `d;${'a'.repeat(40_000)}\r\n${good}\r\n0\r\n\r\n`],
    answer: [400],
  },
  {
    name: 'a bomb in the trailers',
    send: [chunkedHead(), `d\r\n${good}\r\n0\r\n${'a: b\r\n'.repeat(8000)}\r\n`],
    answer: [400, 431, 'close'],
  },
  {
    name: 'nonsense in the middle of content',
    send: [putChunked(), `d4\r\n${mp4}\r\n`, { pause: 50 }, 'nonsense\r\n'],
    answer: [400],
  },
  {
    name: 'a giant chunk of content that never comes',
    send: [putChunked(), `7fffffffffffffff\r\n${mp4}`],
    answer: [408],
    slow: true,
  },
  { name: 'content without an end', send: [putChunked(), `d4\r\n${mp4}\r\n`], answer: [408], slow: true },
  {
    name: 'a body with GET',
    send: [request('GET', '/v1/videos/none', { 'content-length': 13 }, good), smuggled],
    answer: [404, 200],
    answers: 2,
  },
  {
    name: 'a body with GET that never comes',
    send: [request('GET', '/v1/videos/none', { 'content-length': 1000 })],
    answer: [404],
  },
  {
    name: 'a body with DELETE that is no JSON',
    send: [request('DELETE', '/v1/videos/none', type, '{')],
    answer: [400],
  },
  {
    name: 'nonsense after a whole request',
    send: [`${request('GET', '/v1/videos/none')}\x16\x03\x01\x02\0garbage`],
    answer: [404],
  },
  {
    name: 'a byte behind JSON',
    send: [`${json(good)}X`],
    answer: [201],
  },
  {
    name: 'a byte behind a request that is refused',
    send: [`${json('{')}X`],
    answer: [400],
  },
  {
    name: 'a hundred requests at once',
    send: [request('GET', '/v1/videos/none').repeat(100)],
    answer: [404],
    answers: 100,
  },
]
