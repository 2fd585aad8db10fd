import { contentForm, end, field, file, form, type HostileCase, mp4 } from '../case.ts'

const title = field('title', 'x')
const named = (disposition: string) => [form(title + file(disposition) + end)]
const ofType = (type: string, body = title + file() + end) => [form(body, { 'content-type': type })]

/** Multipart bodies. */
export const forms: HostileCase[] = [
  { name: 'no boundary', send: ofType('multipart/form-data'), answer: [400] },
  { name: 'an empty boundary', send: ofType('multipart/form-data; boundary='), answer: [400] },
  { name: 'an empty boundary in quotes', send: ofType('multipart/form-data; boundary=""'), answer: [400] },
  {
    name: 'a boundary without its closing quote',
    send: ofType('multipart/form-data; boundary="X'),
    answer: [400, 201],
  },
  { name: 'two boundaries', send: ofType('multipart/form-data; boundary=Y; boundary=X'), answer: [400] },
  {
    name: 'a boundary of 5 KB',
    send: ofType(`multipart/form-data; boundary=${'b'.repeat(5000)}`),
    answer: [400],
  },
  { name: 'a boundary of a pattern', send: ofType('multipart/form-data; boundary="(a+)+$"'), answer: [400] },
  {
    name: 'another boundary than the body’s',
    send: ofType('multipart/form-data; boundary=other'),
    answer: [400],
  },
  { name: 'a form of another kind', send: ofType('multipart/mixed; boundary=X'), answer: [415] },
  { name: 'an empty body', send: [form('', { 'content-length': 0 })], answer: [400] },
  { name: 'nothing but the end', send: [form(end)], answer: [400] },
  { name: 'no end', send: [form(title + file())], answer: [400] },
  { name: 'half an end', send: [form(`${title}${file()}--X-`)], answer: [400] },
  {
    name: 'a part after the end',
    send: [form(title + file() + end + field('reference', 'smuggled'))],
    answer: [201, 400],
  },
  { name: 'an end before the file', send: [form(title + end + file() + end)], answer: [400] },
  { name: 'a preamble of 300 KB', send: [form(`${'p'.repeat(300_000)}\r\n${title}${end}`)], answer: [400] },
  { name: 'a part without headers', send: [form(`--X\r\n\r\nvalue\r\n${end}`)], answer: [400] },
  {
    name: 'a part without a name',
    send: [form(`--X\r\nContent-Disposition: form-data\r\n\r\nv\r\n${title}${file()}${end}`)],
    answer: [400, 201],
  },
  { name: 'a file without a name', send: named('form-data; filename="a.mp4"'), answer: [400] },
  { name: 'a part with an empty name', send: [form(field('', 'v') + title + file() + end)], answer: [400] },
  {
    name: 'a field called __proto__',
    send: [form(field('__proto__', 'v') + title + file() + end)],
    answer: [400],
  },
  {
    name: 'a field called constructor',
    send: [form(field('constructor', 'v') + title + file() + end)],
    answer: [400],
  },
  {
    name: 'a field called toString',
    send: [form(field('toString', 'v') + title + file() + end)],
    answer: [400],
  },
  {
    name: 'a file called __proto__',
    send: named('form-data; name="__proto__"; filename="a.mp4"'),
    answer: [400],
  },
  {
    name: 'a field called ../../etc',
    send: [form(field('../../etc', 'v') + title + file() + end)],
    answer: [400],
  },
  { name: 'a name with a NUL', send: [form(field('ti\0tle', 'v') + file() + end)], answer: [400] },
  {
    name: 'a name with an encoded line end',
    send: [form(field('title%0d%0a', 'v') + file() + end)],
    answer: [400],
  },
  {
    name: 'a name of 50 KB',
    send: [form(field('n'.repeat(50_000), 'v') + title + file() + end)],
    answer: [400],
  },
  {
    name: 'a filename with a traversal',
    send: named('form-data; name="file"; filename="../../../etc/passwd"'),
    answer: [201],
  },
  {
    name: 'a filename with a NUL',
    send: named('form-data; name="file"; filename="a\0.mp4"'),
    answer: [201, 400],
  },
  {
    name: 'a filename of bytes',
    send: named('form-data; name="file"; filename="\xff\xfe.mp4"'),
    answer: [201],
  },
  {
    name: 'a filename* in a charset nobody knows',
    send: named(`form-data; name="file"; filename*=klingon'x'%ff%00`),
    answer: [201, 400],
  },
  {
    name: 'a filename of 50 KB',
    send: named(`form-data; name="file"; filename="${'f'.repeat(50_000)}"`),
    answer: [201, 400],
  },
  {
    name: 'invalid UTF-8 in a title',
    send: [form(field('title', 'a\xff\xfe') + file() + end)],
    answer: [400],
  },
  {
    name: 'invalid UTF-8 in a reference',
    send: [form(title + field('reference', '\xc0\xaf') + file() + end)],
    answer: [400],
  },
  { name: 'a NUL in a title', send: [form(field('title', 'a\0b') + file() + end)], answer: [400] },
  { name: 'a line end in a title', send: [form(field('title', 'a\r\nb') + file() + end)], answer: [400] },
  {
    name: 'a title of 300 KB',
    send: [form(field('title', 'x'.repeat(300_000)) + file() + end)],
    answer: [400],
  },
  {
    name: 'a title as a file',
    send: [form(file('form-data; name="title"; filename="t"') + file() + end)],
    answer: [400],
  },
  { name: 'two titles', send: [form(title + title + file() + end)], answer: [400] },
  { name: 'two files', send: [form(title + file() + file() + end)], answer: [400] },
  { name: 'five thousand fields', send: [form(field('title', 'x').repeat(5000) + end)], answer: [400] },
  {
    name: 'five thousand fields nobody knows',
    send: [form(Array.from({ length: 5000 }, (_, i) => field(`f${i}`, 'x')).join('') + end)],
    answer: [400],
  },
  { name: 'five thousand files', send: [form(file().repeat(5000) + end)], answer: [400] },
  {
    name: 'five thousand empty parts',
    send: [form(`${'--X\r\n\r\n\r\n'.repeat(5000)}${end}`)],
    answer: [400],
  },
  { name: 'ten thousand boundaries', send: [form(`${'--X\r\n'.repeat(10_000)}${end}`)], answer: [400] },
  {
    name: 'a part with a thousand headers',
    send: [form(`--X\r\n${'A: b\r\n'.repeat(1000)}\r\nv\r\n${end}`)],
    answer: [400],
  },
  {
    name: 'a part with a header of 200 KB',
    send: [form(`--X\r\nA: ${'b'.repeat(200_000)}\r\n\r\nv\r\n${end}`)],
    answer: [400],
  },
  {
    name: 'a part whose header never ends',
    send: [form(`--X\r\nContent-Disposition: ${'b'.repeat(50_000)}`)],
    answer: [400],
  },
  {
    name: 'a form within the form',
    send: [
      form(
        `--X\r\nContent-Disposition: form-data; name="title"\r\nContent-Type: multipart/mixed; boundary=Y\r\n\r\n--Y\r\n\r\nx\r\n--Y--\r\n${file()}${end}`,
      ),
    ],
    answer: [400],
  },
  {
    name: 'a transfer encoding of a part',
    send: [
      form(
        `--X\r\nContent-Disposition: form-data; name="title"\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!!\r\n${file()}${end}`,
      ),
    ],
    answer: [201, 400],
  },
  {
    name: 'a charset of a part',
    send: [
      form(
        `--X\r\nContent-Disposition: form-data; name="title"\r\nContent-Type: text/plain; charset=utf-16le\r\n\r\n\0\xd8\r\n${file()}${end}`,
      ),
    ],
    answer: [400],
  },
  {
    name: 'a file that is no mp4',
    send: [form(title + file(undefined, 'MZ\x90\0'.repeat(50)) + end)],
    answer: [415],
  },
  { name: 'an empty file', send: [form(title + file(undefined, '') + end)], answer: [400] },
  {
    name: 'a file beyond the limit',
    send: [form(title + file(undefined, mp4.padEnd(1_500_000, 'Z')) + end)],
    answer: [413],
  },
  {
    name: 'a form cut short',
    send: [form(title + file(), { 'content-length': 50_000 }), { pause: 20 }, 'reset'],
    answer: ['close'],
  },
  { name: 'content with another field', send: [contentForm(title + file() + end)], answer: [400] },
  {
    name: 'content whose file is called otherwise',
    send: [contentForm(file('form-data; name="evil"; filename="a.mp4"') + end)],
    answer: [400],
  },
  { name: 'content without an end', send: [contentForm(file())], answer: [400] },
  {
    name: 'content followed by a field',
    send: [contentForm(file() + field('title', 'x') + end)],
    answer: [400],
  },
  { name: 'content followed by a second file', send: [contentForm(file() + file() + end)], answer: [400] },
]
