import { contentForm, end, field, file, form, type HostileCase, mp4 } from '../case.ts'

const title = field('title', 'x')
const named = (disposition: string) => [form(title + file(disposition) + end)]
const ofType = (type: string, body = title + file() + end) => [form(body, { 'content-type': type })]

const chunkedForm = (body: string) =>
  form(`${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`, { 'transfer-encoding': 'chunked' })

/** Nothing may follow the file but the end of the form. */
const behindTheFile = [
  { name: 'a part without headers', send: `--X\r\n\r\n${'lost'.repeat(200)}\r\n${end}` },
  { name: 'a part of 900 KB without headers', send: `--X\r\n\r\n${'lost'.repeat(225_000)}\r\n${end}` },
  { name: 'a part without a name', send: `--X\r\nContent-Disposition: form-data\r\n\r\nlost\r\n${end}` },
  { name: 'an attachment', send: `--X\r\nContent-Disposition: attachment; name="a"\r\n\r\nlost\r\n${end}` },
  { name: 'an empty part', send: `--X\r\n\r\n\r\n${end}` },
  { name: 'a boundary alone', send: `--X\r\n${end}` },
  { name: 'a field', send: field('reference', 'lost') + end },
  { name: 'a second file', send: file() + end },
  { name: 'a part of another name', send: file('form-data; name="video"; filename="b.mp4"') + end },
  {
    name: 'a form within the form',
    send: `--X\r\nContent-Type: multipart/mixed; boundary=Y\r\n\r\n--Y\r\n\r\nlost\r\n--Y--\r\n${end}`,
  },
  { name: 'an epilogue', send: `${end}lost` },
  { name: 'an epilogue of 900 KB', send: `${end}${'lost'.repeat(225_000)}` },
  { name: 'one byte', send: `${end}x` },
  { name: 'a LF', send: `${end}\n` },
  { name: 'a NUL', send: `${end}\0` },
  { name: 'a third line break', send: `${end}\r\n\r\n` },
  { name: 'half a line break', send: `${end}\r` },
  { name: 'a second end', send: end + end },
  { name: 'padding without an end', send: `--X--${' '.repeat(5000)}` },
]

/** Headers of a field that say that its bytes are not UTF-8, or not its text. */
const fieldHeaders: { name: string; headers: string; value?: string; answer: number }[] = [
  { name: 'in base64', headers: 'Content-Transfer-Encoding: base64\r\n', value: 'S8O2bG4=', answer: 400 },
  { name: 'in BASE64', headers: 'content-transfer-encoding: BASE64\r\n', value: 'S8O2bG4=', answer: 400 },
  { name: 'in quoted-printable', headers: 'Content-Transfer-Encoding: quoted-printable\r\n', answer: 400 },
  { name: 'in x-uuencode', headers: 'Content-Transfer-Encoding: x-uuencode\r\n', answer: 400 },
  { name: 'in gzip', headers: 'Content-Encoding: gzip\r\n', value: '\x1f\x8b', answer: 400 },
  { name: 'in 8bit', headers: 'Content-Transfer-Encoding: 8bit\r\n', value: 'K\xc3\xb6ln', answer: 201 },
  { name: 'in 7bit', headers: 'Content-Transfer-Encoding: 7bit\r\n', answer: 201 },
  { name: 'in binary', headers: 'Content-Transfer-Encoding: binary\r\n', answer: 201 },
  { name: 'in UTF-8 without a word', headers: '', value: 'K\xc3\xb6ln', answer: 201 },
  { name: 'in latin1 without a word', headers: '', value: 'K\xf6ln', answer: 400 },
  {
    name: 'in utf-8',
    headers: 'Content-Type: text/plain; charset=utf-8\r\n',
    value: 'K\xc3\xb6ln',
    answer: 201,
  },
  {
    name: 'in latin1 as utf-8',
    headers: 'Content-Type: text/plain; charset=utf-8\r\n',
    value: 'K\xf6ln',
    answer: 400,
  },
  { name: 'in us-ascii', headers: 'Content-Type: text/plain; charset=us-ascii\r\n', answer: 201 },
  {
    name: 'in iso-8859-1',
    headers: 'Content-Type: text/plain; charset=ISO-8859-1\r\n',
    value: 'K\xf6ln',
    answer: 201,
  },
  {
    name: 'in windows-1252',
    headers: 'Content-Type: text/plain; charset="windows-1252"\r\n',
    value: '\x93K\xf6ln\x94',
    answer: 201,
  },
  {
    name: 'with a byte that windows-1252 has not',
    headers: 'Content-Type: text/plain; charset=windows-1252\r\n',
    value: 'a\x81',
    answer: 400,
  },
  { name: 'in klingon', headers: 'Content-Type: text/plain; charset=klingon\r\n', answer: 400 },
  { name: 'in utf-7', headers: 'Content-Type: text/plain; charset=utf-7\r\n', answer: 400 },
  { name: 'with C1 controls', headers: '', value: 'a\xc2\x9bb', answer: 400 },
  { name: 'in JSON', headers: 'Content-Type: application/json\r\n', value: '"x"', answer: 400 },
  { name: 'in HTML', headers: 'Content-Type: text/html\r\n', answer: 400 },
  {
    name: 'of another default charset',
    headers: 'Content-Disposition: form-data; name="_charset_"\r\n\r\nwindows-1252\r\n--X\r\n',
    value: 'K\xf6ln',
    answer: 201,
  },
  {
    name: 'of a default charset that nobody knows',
    headers: 'Content-Disposition: form-data; name="_charset_"\r\n\r\nklingon\r\n--X\r\n',
    answer: 400,
  },
]

/** Headers of the part `file`: what it is, and whether its bytes are what they stand for. */
const fileHeaders = [
  { name: 'without a type', headers: '', answer: 201 },
  { name: 'of application/octet-stream', headers: 'Content-Type: application/octet-stream\r\n', answer: 201 },
  {
    name: 'of Video/MP4 with codecs',
    headers: 'Content-Type: Video/MP4; codecs="avc1.42E01E, mp4a"\r\n',
    answer: 201,
  },
  { name: 'of text/plain', headers: 'Content-Type: text/plain\r\n', answer: 415 },
  { name: 'of video/quicktime', headers: 'Content-Type: video/quicktime\r\n', answer: 415 },
  { name: 'of an empty type', headers: 'Content-Type: \r\n', answer: 415 },
  { name: 'in binary', headers: 'Content-Transfer-Encoding: binary\r\n', answer: 201 },
  { name: 'in base64', headers: 'Content-Transfer-Encoding: base64\r\n', answer: 415 },
  { name: 'in quoted-printable', headers: 'Content-Transfer-Encoding: Quoted-Printable\r\n', answer: 415 },
  { name: 'in gzip', headers: 'Content-Encoding: gzip\r\n', answer: 415 },
  { name: 'with headers that nobody knows', headers: 'X-Other: a\r\nContent-ID: <1>\r\n', answer: 201 },
]

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
    answer: [400],
  },
  { name: 'an end before the file', send: [form(title + end + file() + end)], answer: [400] },
  { name: 'a preamble of 300 KB', send: [form(`${'p'.repeat(300_000)}\r\n${title}${end}`)], answer: [400] },
  { name: 'a part without headers', send: [form(`--X\r\n\r\nvalue\r\n${end}`)], answer: [400] },
  {
    name: 'a part without a name',
    send: [form(`--X\r\nContent-Disposition: form-data\r\n\r\nv\r\n${title}${file()}${end}`)],
    answer: [400],
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
    answer: [400],
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
  ...behindTheFile.flatMap(({ name, send }) => [
    { name: `${name}, behind a new video`, send: [form(title + file() + send)], answer: [400] },
    { name: `${name}, behind content`, send: [contentForm(file() + send)], answer: [400] },
    {
      name: `${name}, behind a chunked form`,
      send: [chunkedForm(title + file() + send)],
      answer: [400],
    },
  ]),
  ...fieldHeaders.map(({ name, headers, value = 'x', answer }) => ({
    name: `a field ${name}`,
    send: [
      form(
        `--X\r\n${headers}Content-Disposition: form-data; name="title"\r\n\r\n${value}\r\n${file()}${end}`,
      ),
    ],
    answer: [answer],
  })),
  ...fileHeaders.map(({ name, headers, answer }) => ({
    name: `a file ${name}`,
    send: [
      form(`${title}--X\r\n${headers}Content-Disposition: form-data; name="file"\r\n\r\n${mp4}\r\n${end}`),
    ],
    answer: [answer],
  })),
  {
    name: 'lines that end with LF',
    send: [form((title + file() + end).replaceAll('\r\n', '\n'))],
    answer: [400],
  },
  {
    name: 'boundary lines that end with LF',
    send: [form((title + file() + end).replaceAll('--X\r\n', '--X\n'))],
    answer: [400],
  },
  { name: 'a preamble', send: [form(`This is a form.\r\n${title}${file()}${end}`)], answer: [201] },
  {
    name: 'padding behind boundaries',
    send: [form((title + file() + end).replaceAll('--X\r\n', '--X \t\r\n'))],
    answer: [201],
  },
  { name: 'a folded header', send: [form(title + file('form-data;\r\n name="file"') + end)], answer: [201] },
  {
    name: 'a boundary that begins another line',
    send: [form(title + file(undefined, `${mp4}\r\n--XY${mp4}`) + end)],
    answer: [400],
  },
  {
    name: 'two headers of a name',
    send: [
      form(title + file('form-data; name="file"\r\nContent-Disposition: form-data; name="title"') + end),
    ],
    answer: [400],
  },
  {
    name: 'two names',
    send: [form(title + file('form-data; name="file"; name="title"') + end)],
    answer: [400],
  },
  { name: 'content followed by a second file', send: [contentForm(file() + file() + end)], answer: [400] },
]
