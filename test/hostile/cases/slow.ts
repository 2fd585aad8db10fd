import { content, field, form, type HostileCase, json, mp4, request } from '../case.ts'

const tokenHead = request('POST', '/oauth2/token', {
  'content-type': 'application/x-www-form-urlencoded',
  'content-length': 1000,
})

/** Requests that are never complete: each has to be over after ten seconds. */
export const slow: HostileCase[] = [
  { name: 'silence', send: [], answer: ['close', 408] },
  { name: 'half a request line', send: ['GET /v1/vid'], answer: [408] },
  { name: 'headers that stop', send: ['GET / HTTP/1.1\r\nhost: g\r\nx'], answer: [408] },
  {
    name: 'headers that drip',
    send: ['GET / HTTP/1.1\r\nhost: g\r\n', { drip: 'a: b\r\n', every: 500 }],
    answer: [408],
  },
  { name: 'JSON that never comes', send: [json('', { 'content-length': 100 })], answer: [408] },
  { name: 'JSON that stops', send: [json('{"title":', { 'content-length': 100 })], answer: [408] },
  {
    name: 'JSON that drips',
    send: [json('{"title":"', { 'content-length': 100_000 }), { drip: 'x', every: 300 }],
    answer: [408],
  },
  {
    name: 'JSON that drips in chunks',
    send: [json('', { 'transfer-encoding': 'chunked' }), { drip: '1\r\nx\r\n', every: 300 }],
    answer: [408],
  },
  { name: 'a token request that stops', send: [`${tokenHead}grant_type=`], answer: [408] },
  { name: 'a token request that drips', send: [tokenHead, { drip: 'x', every: 300 }], answer: [408] },
  {
    name: 'a form that stops before its file',
    send: [form(field('title', 'x'), { 'content-length': 5000 })],
    answer: [408],
  },
  {
    name: 'a form that drips before its file',
    send: [
      form('--X\r\nContent-Disposition: form-data; name="title"\r\n\r\n', { 'content-length': 500_000 }),
      { drip: 'x', every: 300 },
    ],
    answer: [408],
  },
  {
    name: 'a form whose preamble drips',
    send: [form('', { 'content-length': 500_000 }), { drip: 'x', every: 300 }],
    answer: [408],
  },
  { name: 'content that never comes', send: [content('', { 'content-length': 5000 })], answer: [408] },
  { name: 'content that stops', send: [content(mp4, { 'content-length': 5000 })], answer: [408] },
  {
    name: 'a form whose file stops',
    send: [
      form(
        `${field('title', 'x')}--X\r\nContent-Disposition: form-data; name="file"; filename="a"\r\nContent-Type: video/mp4\r\n\r\n${mp4}`,
        { 'content-length': 5000 },
      ),
    ],
    answer: [408],
  },
  {
    name: 'a refused body that drips on',
    send: [request('POST', '/v1/nowhere', { 'content-length': 500_000 }), { drip: 'x', every: 300 }],
    answer: [404],
  },
  {
    name: 'a body with GET that drips',
    send: [request('GET', '/v1/videos/none', { 'content-length': 500_000 }), { drip: 'x', every: 300 }],
    answer: [404],
  },
].map((one) => ({ ...one, slow: true }) as HostileCase)
