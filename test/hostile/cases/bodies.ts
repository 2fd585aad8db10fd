import { content, type HostileCase, json, mp4, request } from '../case.ts'

const token = (body: string, headers = {}) =>
  request('POST', '/oauth2/token', { 'content-type': 'application/x-www-form-urlencoded', ...headers }, body)

/** Whole bodies: JSON, the token endpoint's form, raw content. */
export const bodies: HostileCase[] = [
  { name: 'invalid UTF-8 in a title', send: [json('{"title":"a\xff\xfeb"}')], answer: [400] },
  { name: 'a surrogate as UTF-8 in a title', send: [json('{"title":"a\xed\xa0\x80"}')], answer: [400] },
  { name: 'an overlong slash in a title', send: [json('{"title":"a\xc0\xaf"}')], answer: [400] },
  { name: 'half a surrogate pair', send: [json('{"title":"a\\ud800"}')], answer: [400] },
  {
    name: 'half a surrogate pair in a description',
    send: [json('{"title":"x","description":"a\\udc00"}')],
    answer: [400],
  },
  { name: 'a NUL in a title', send: [json('{"title":"a\\u0000b"}')], answer: [400] },
  { name: 'a NUL in a reference', send: [json('{"title":"x","reference":"a\\u0000b"}')], answer: [400] },
  { name: 'a NUL in a description', send: [json('{"title":"x","description":"a\\u0000b"}')], answer: [400] },
  { name: 'a raw NUL in JSON', send: [json('{"title":"a\0b"}')], answer: [400] },
  { name: 'a line end in a title', send: [json('{"title":"a\\r\\nset-cookie: b"}')], answer: [400] },
  {
    name: 'an escape sequence in a reference',
    send: [json('{"title":"x","reference":"\\u001b[2J"}')],
    answer: [400],
  },
  { name: '__proto__ in JSON', send: [json('{"title":"x","__proto__":{"stage":"ready"}}')], answer: [400] },
  {
    name: '__proto__ in JSON, escaped',
    send: [json('{"title":"x","\\u005f_proto__":{"stage":"ready"}}')],
    answer: [400],
  },
  {
    name: 'constructor.prototype in JSON',
    send: [json('{"title":"x","constructor":{"prototype":{"a":1}}}')],
    answer: [400],
  },
  { name: 'the platform __proto__', send: [json('{"title":"x","platform":"__proto__"}')], answer: [400] },
  { name: 'the platform ../mux', send: [json('{"title":"x","platform":"../mux"}')], answer: [400] },
  {
    name: 'members that are not for callers',
    send: [json('{"title":"x","id":"1","stage":"ready","slot":{"handle":"http://evil"}}')],
    answer: [400],
  },
  { name: 'JSON a hundred thousand levels deep', send: [json('['.repeat(100_000))], answer: [400] },
  {
    name: 'an object fifteen thousand levels deep',
    send: [json(`${'{"a":'.repeat(15_000)}1${'}'.repeat(15_000)}`)],
    answer: [400],
  },
  {
    name: 'ten thousand members',
    send: [json(`{${Array.from({ length: 10_000 }, (_, i) => `"a${i}":1`).join()}}`)],
    answer: [400],
  },
  { name: 'a number beyond all numbers', send: [json('{"title":1e99999}')], answer: [400] },
  { name: 'a title that is an object', send: [json('{"title":{"toString":"x"}}')], answer: [400] },
  { name: 'a title of 300 KB', send: [json(`{"title":"${'x'.repeat(300_000)}"}`)], answer: [413] },
  { name: 'a body beyond the limit', send: [json('', { 'content-length': 2_000_000_000 })], answer: [413] },
  {
    name: 'a body beyond the limit, counted',
    send: [json('', { 'transfer-encoding': 'chunked' }), `1fffff\r\n${' '.repeat(0x1fffff)}\r\n0\r\n\r\n`],
    answer: [413],
  },
  { name: 'a byte order mark alone', send: [json('\xef\xbb\xbf')], answer: [400] },
  { name: 'two documents', send: [json('{"title":"x"}{"title":"y"}')], answer: [400] },
  { name: 'null', send: [json('null')], answer: [400] },
  {
    name: 'a token request of invalid UTF-8',
    send: [token('grant_type=client_credentials&client_id=%ff&client_secret=%00')],
    answer: [400, 401],
  },
  { name: 'a token request of raw bytes', send: [token('grant_type=\xff\xfe\0')], answer: [400] },
  {
    name: 'a token request of __proto__',
    send: [token('__proto__[grant_type]=client_credentials&__proto__=1')],
    answer: [400],
  },
  { name: 'a token request of ten thousand parameters', send: [token('a=b&'.repeat(10_000))], answer: [400] },
  { name: 'a token request of two thousand parameters', send: [token('a=b&'.repeat(2000))], answer: [400] },
  {
    name: 'a token request with two clients',
    send: [token('grant_type=client_credentials&client_id=a&client_id=b&client_secret=c')],
    answer: [400, 401],
  },
  { name: 'content that is no mp4', send: [content('#!/bin/sh\nrm -rf /\n')], answer: [415] },
  { name: 'content of NULs', send: [content('\0'.repeat(5000))], answer: [415] },
  { name: 'content of one byte', send: [content('\0')], answer: [415] },
  {
    name: 'content cut short',
    send: [content(mp4, { 'content-length': 5000 }), { pause: 20 }, 'reset'],
    answer: ['close'],
  },
  { name: 'content beyond the limit', send: [content(mp4, { 'content-length': 2_000_000 })], answer: [413] },
  {
    name: 'content longer than the limit, counted',
    send: [
      content('', { 'transfer-encoding': 'chunked' }),
      `200000\r\n${mp4.padEnd(0x200000, 'Z')}\r\n0\r\n\r\n`,
    ],
    answer: [413],
  },
  { name: 'content of another type', send: [content(mp4, { 'content-type': 'text/html' })], answer: [415] },
]
