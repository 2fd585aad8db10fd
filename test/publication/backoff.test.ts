import fc from 'fast-check'
import t from 'tap'
import { backoffDelay } from '../../src/publication/backoff.ts'

t.test('the delay grows by its factor up to the maximum', async (t) => {
  const policy = { initial: 2000, factor: 1.5, max: 60_000, jitter: 0 }
  t.strictSame(
    [0, 1, 2, 3, 20, 100_000].map((checks) => backoffDelay(policy, checks)),
    [2000, 3000, 4500, 6750, 60_000, 60_000],
  )
})

t.test('jitter spreads evenly around the plain delay and never leaves its share', async (t) => {
  const duration = fc.integer({ min: 1, max: 86_400_000 })
  fc.assert(
    fc.property(
      duration,
      fc.double({ min: 1, max: 10, noNaN: true }),
      duration,
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.nat(),
      fc.double({ min: 0, max: 0.999, noNaN: true }),
      (initial, factor, max, jitter, checks, random) => {
        const plain = backoffDelay({ initial, factor, max, jitter: 0 }, checks)
        const delay = backoffDelay({ initial, factor, max, jitter }, checks, random)
        return (
          Number.isInteger(delay) &&
          delay >= 0 &&
          Math.abs(delay - plain) <= plain * jitter + 1 &&
          plain <= max
        )
      },
    ),
  )
  const policy = { initial: 1000, factor: 2, max: 1000, jitter: 0.2 }
  t.equal(backoffDelay(policy, 5, 0), 800)
  t.equal(backoffDelay(policy, 5, 0.5), 1000)
})
