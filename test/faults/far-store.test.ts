import t from 'tap'

/**
 * Suites of other files once more, over a store as far away as another machine's: whatever may come between two of its
 * calls does (`yielding-store.ts`). `FAR_STORE=all` takes those too that wait for long.
 */
process.env.STORE = 'far'
t.jobs = 8

const suites = ['e2e/lifecycle', 'e2e/upload', 'e2e/races', 'e2e/idempotency', 'faults/removal']
const slow = ['e2e/status', 'e2e/metadata', 'faults/fences', 'faults/leftovers', 'faults/lanes']
for (const suite of process.env.FAR_STORE === 'all' ? [...suites, ...slow] : suites)
  await import(`../${suite}.test.ts`)
