import type { TSchema } from '@sinclair/typebox'
import t from 'tap'
import * as border from '../../../src/platform/http/border.ts'

const { failedBecause, fits, pathSegment, requireSame, unknownStates } = border

t.test('each schema accepts valid values only', async (t) => {
  const now = Date.now()
  const time = (offset: number) => new Date(now + offset).toISOString()
  const table: [string, TSchema, unknown[], unknown[]][] = [
    [
      'ids',
      border.Id,
      ['a', '0', '9c5a-1_2.3~4', '.a', 'a..', 'x'.repeat(255)],
      ['', '.', '..', '...', 'a/b', 'a%2Fb', 'a b', 'a\n', 'é', '\ud800', 'x'.repeat(256), 5, null, ['a']],
    ],
    ['words', border.Word, ['', 'ready', 'x'.repeat(100)], ['x'.repeat(101), 5, null]],
    [
      'secrets',
      border.Secret,
      ['a', 'eyJ.a-b_c==', 'x'.repeat(8_192)],
      ['', 'a b', 'a\r\nb', 'é', 'x'.repeat(8_193)],
    ],
    [
      'pixels',
      border.Pixels,
      [1, 720, 65_535],
      [0, -1, 1.5, 65_536, 1e308, Number.NaN, Number.POSITIVE_INFINITY, '720', null],
    ],
    [
      'seconds',
      border.Seconds,
      [0, 0.04, 864_000],
      [-1, 864_001, 1e308, Number.NaN, Number.POSITIVE_INFINITY, '1', null],
    ],
    [
      'times',
      border.Time,
      [time(0), time(-1e11), time(3_600_000), '1970-01-01T00:00:00Z'],
      [
        time(2 * 86_400_000),
        '1969-12-31T00:00:00Z',
        '9999-12-31T00:00:00Z',
        '+275760-09-13T00:00:00Z',
        'soon',
        '',
        0,
        null,
      ],
    ],
    [
      'expiries',
      border.Expiry,
      [time(0), time(-1e11), time(1e12), '9999-12-31T23:59:59Z'],
      ['+010000-01-01T00:00:00Z', '+275760-09-13T00:00:00Z', '1969-12-31T00:00:00Z', 'soon', '', 0],
    ],
  ]
  for (const [name, schema, good, bad] of table) {
    for (const value of good) t.ok(fits(schema, value), `${name}: ${String(value).slice(0, 40)}`)
    for (const value of bad) t.notOk(fits(schema, value), `${name}: not ${String(value).slice(0, 40)}`)
  }
})

t.test('an id is accepted in a path only as one segment', async (t) => {
  t.equal(pathSegment('acme', 'a-1'), 'a-1')
  t.throws(() => pathSegment('acme', '..'), { code: 'platform-protocol-error' })
  t.throws(() => pathSegment('acme', null), { message: /^acme does not have this video/ })
})

t.test('a response about another video is a protocol error', async (t) => {
  for (const said of ['a', null, undefined]) t.doesNotThrow(() => requireSame('acme', 'a', said))
  for (const said of ['b', 'A', ''])
    t.throws(() => requireSame('acme', 'a', said), { code: 'platform-protocol-error' })
})

t.test('a failure message is truncated, and contains nothing that a database rejects', async (t) => {
  const camera = '\u{1F3AC}'
  const none = 'The platform reported no reason.'
  const table: [string | null | undefined, string][] = [
    ['no moov atom', 'no moov atom'],
    [null, none],
    [undefined, none],
    ['', none],
    [' \n\t', none],
    ['a\r\n  b', 'a   b'],
    ['a\0b', 'a\uFFFDb'],
    ['\u001b[31mred\u009b', '\uFFFD[31mred\uFFFD'],
    ['a\ud800b\udc00', 'a\uFFFDb\uFFFD'],
    [camera, camera],
    ['x'.repeat(501), 'x'.repeat(500)],
    [camera.repeat(400), camera.repeat(250)],
    [`x${camera.repeat(400)}`, `x${camera.repeat(249)}`],
    ['x'.repeat(4_000_000), 'x'.repeat(500)],
  ]
  for (const [given, message] of table) t.strictSame(failedBecause(given), { state: 'failed', message })
})

t.test('an unknown state is logged once, and at most a hundred of them', async (t) => {
  const lines: object[] = []
  const unknownState = unknownStates('acme', {
    info() {},
    error() {},
    warn: (fields) => void lines.push(fields),
  })
  for (let round = 0; round < 3; round++) t.strictSame(unknownState('archived'), { state: 'processing' })
  t.strictSame(lines, [{ platform: 'acme', state: 'archived' }])
  for (let state = 0; state < 1_000; state++) unknownState(state)
  t.equal(lines.length, 100)
})
