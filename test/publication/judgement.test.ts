import fc from 'fast-check'
import t from 'tap'
import { GatewayError } from '../../src/errors.ts'
import { type Finding, judge, noEvidence, type Verdict } from '../../src/publication/judgement.ts'

const minute = 60_000
const hour = 60 * minute
const patience = {
  processing: 12 * hour,
  gap: 11 * minute,
  denial: { ms: 2 * minute, times: 3 },
  metadata: hour,
  silence: 72 * hour,
}
const nothing: Finding = { says: 'nothing', error: new GatewayError('platform-unavailable') }
type Step = [afterMs: number, finding: Finding | Finding['says']]

/** What is decided after each of the steps. */
function verdicts(steps: Step[]): string[] {
  let evidence = noEvidence(0)
  let now = 0
  return steps.map(([after, step]) => {
    now += after
    const finding = typeof step === 'string' ? ({ says: step, message: 'broken' } as Finding) : step
    let verdict: Verdict
    ;({ evidence, verdict } = judge(finding, evidence, now, patience))
    return verdict.is === 'failed' ? verdict.error.code : verdict.is
  })
}
const every = (count: number, ms: number, says: Finding['says']): Step[] =>
  Array.from({ length: count }, () => [ms, says])

const lives: [name: string, steps: Step[], last: string][] = [
  ['ready at once', [[0, 'ready']], 'ready'],
  ['failed at once', [[0, 'failed']], 'platform-processing-failed'],
  ['one 404', [[minute, 'video-missing']], 'wait'],
  ['three 404 within a minute', every(3, minute / 3, 'video-missing'), 'wait'],
  ['two 404, hours apart', every(2, hour, 'video-missing'), 'wait'],
  ['three 404 over minutes', every(3, minute, 'video-missing'), 'platform-video-missing'],
  [
    'an answer between two 404',
    [...every(2, minute, 'video-missing'), [minute, 'processing'], [minute, 'video-missing']],
    'wait',
  ],
  [
    'silence between the 404',
    [...every(2, minute, 'video-missing'), [minute, nothing], [minute, 'video-missing']],
    'platform-video-missing',
  ],
  [
    'one stale state that awaits an upload',
    [
      [0, 'content-lost'],
      [minute, 'processing'],
    ],
    'wait',
  ],
  ['content lost for minutes', every(3, minute, 'content-lost'), 'platform-lost-content'],
  ['processing to the limit', every(719, minute, 'processing'), 'wait'],
  ['processing beyond it', every(720, minute, 'processing'), 'processing-timeout'],
  [
    'a downtime longer than the limit, then processing',
    [
      [13 * hour, 'processing'],
      [minute, 'processing'],
    ],
    'wait',
  ],
  ['a downtime longer than the limit, then a failure of the platform', [[13 * hour, nothing]], 'wait'],
  [
    'a downtime longer than the limit, then ready',
    [
      [13 * hour, nothing],
      [minute, 'ready'],
    ],
    'ready',
  ],
  ['a platform that is away for long', [...every(71, hour, 'nothing'), [59 * minute, nothing]], 'wait'],
  ['a platform that is away for too long', every(72, hour, 'nothing'), 'platform-unreachable'],
  ['ready without metadata', every(60, minute, 'ready-without-metadata'), 'wait'],
  [
    'ready without metadata for long',
    every(61, minute, 'ready-without-metadata'),
    'platform-metadata-missing',
  ],
  [
    '11 h of processing do not shorten that',
    [...every(660, minute, 'processing'), ...every(60, minute, 'ready-without-metadata')],
    'wait',
  ],
]
for (const [name, steps, last] of lives) {
  t.test(name, async (t) => {
    const all = verdicts(steps)
    t.equal(all.at(-1), last)
    t.ok(
      all.slice(0, -1).every((verdict) => verdict === 'wait'),
      'and nothing is decided earlier',
    )
  })
}

t.test('only the platform’s own result ends processing after a single check', async (t) => {
  const says = fc.constantFrom<Finding['says']>(
    'processing',
    'ready-without-metadata',
    'content-lost',
    'video-missing',
    'nothing',
  )
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: -hour, max: 30_000 }), says), { maxLength: 30 }),
      (steps) => {
        const waits = verdicts(steps.map(([ms, one], index) => [ms, index % 2 ? 'processing' : one]))
        return waits.every((verdict) => verdict === 'wait')
      },
    ),
  )
  t.pass('each is forgiven when the next check finds the video processing')
})
