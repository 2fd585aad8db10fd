/** Values that no platform should send, as JSON texts: some have no other form, such as 1e999 or a lone surrogate. */
const quoted = (...texts: string[]) => texts.map((text) => JSON.stringify(text))

const long = 'x'.repeat(10_000)

/** Of the wrong type, or of the right one without a meaning. */
export const shapes = ['null', '{}', '[]', '[[]]', 'true', '{"length":1}']

/** Ids that would name another path. */
export const hostilePaths = quoted(
  '',
  '.',
  '..',
  '...',
  '../../oauth/token',
  '..\\..\\oauth\\token',
  '%2e%2e',
  '%2e%2e%2foauth%2ftoken',
  '..%2Foauth',
  'a/b',
  'a?b=c',
  'a#b',
  'a;b',
  '/',
  '//evil.example/x',
  'é',
  '\u{1F3AC}',
  '\u202Egnp.4pm',
  '__proto__',
)

export const hostileUrls = quoted(
  'javascript:alert(1)',
  'JavaScript:alert(1)//http://',
  'java\tscript:alert(1)',
  'data:text/html,<script>alert(1)</script>',
  'file:///etc/passwd',
  'ftp://evil.example/x',
  'blob:https://evil.example/1',
  'about:blank',
  'http://',
  'https://',
  'https://?x',
  'https:evil.example',
  'https:\\\\evil.example\\x',
  'https://evil example/',
  'https://user:word@evil.example/',
  'https://:word@evil.example/',
  'https://evil.example:99999/',
  ' https://evil.example/',
  `https://evil.example/${long}`,
)

export const hostileTexts = [
  ...quoted(' ', '\0', 'a\0b', 'a\r\nSet-Cookie: b=c', 'a\nb', '\u0085', '\u001b[31m', long),
  ...quoted('\u{1F3AC}'.repeat(400), 'x'.concat('\u{1F3AC}'.repeat(400))),
  '"\\ud800"',
  '"\\udfff\\ud800 x"',
]

export const numbers = [
  ...['0', '-0', '-1', '0.5', '1.5', '65536', '1e5', '1e6', '1e21', '1e308', '-1e308', '1e999', '-1e999'],
  ...['2147483648', '4294967296', '9007199254740993', '5e-324', '"720"', '""', '"NaN"', '[720]'],
]

/** Texts of headers that say at which byte an upload stands. */
export const offsets = quoted(
  '',
  '-1',
  '1.5',
  '1e3',
  '0x10',
  'NaN',
  '9007199254740993',
  '9'.repeat(400),
  '1, 2',
  'bytes=0--5',
  'bytes=5-1',
  'bytes=0-1e3',
  'bytes=0-9007199254740993',
  `bytes=0-${'9'.repeat(400)}`,
  'items=0-5',
)

/** A URL, changed so that it still leads to its host. */
export function variationsOf(url: string): string[] {
  const { protocol, host, pathname } = new URL(url, 'http://127.0.0.1')
  const at = (rest: string) => `${protocol}//${rest}`
  return quoted(
    at(`user@${host}${pathname}`),
    at(`:word@${host}${pathname}`),
    at(`user:word@${host}${pathname}`),
    at(`${host}${pathname}\r\n`),
    at(`${host}\t${pathname}`),
    at(`${host}${pathname}\0`),
    at(`${host}${pathname} x`),
    at(`${host}${pathname}?${long}`),
    at(`${host}${pathname}#${long}`),
    `${url}\u{1F3AC}`.replace(/\u{1F3AC}/u, '\u{1F3AC}'.repeat(2_000)),
  )
}
