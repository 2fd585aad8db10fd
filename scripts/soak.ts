/** The long versions of the fault tests: `npm run soak`. Bounded; about half an hour on two cores. */
import { spawnSync } from 'node:child_process'

const { status } = spawnSync(
  process.execPath,
  ['scripts/test.ts', 'test/faults/*.test.ts', '--timeout=2400'],
  {
    stdio: 'inherit',
    env: {
      CRASH_KILLS: '200',
      PENDING_VIDEOS: '10000',
      INTERLEAVINGS: '20',
      FAR_STORE: 'all',
      POSTGRES_SUITES: 'all',
      REPLICA_KILLS: '200',
      REPLICA_PUBLICATIONS: '1000',
      WEBHOOK_VIDEOS: '1000',
      ...process.env,
    },
  },
)
process.exit(status ?? 1)
