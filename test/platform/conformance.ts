import type { Test } from 'tap'
import { boundsTests } from './conformance/bounds.ts'
import { credentialTests } from './conformance/credentials.ts'
import { failureTests } from './conformance/failures.ts'
import { lifeTests } from './conformance/life.ts'
import type { StartDouble } from './conformance/setup.ts'
import { uploadTests } from './conformance/uploads.ts'

/**
 * The platform contract as tests: what any adapter has to do in front of a double of its platform.
 * Each test has a double of its own, so two at a time do not meet.
 */
export function conformanceTests(t: Test, startDouble: StartDouble): void {
  t.jobs = 2
  lifeTests(t, startDouble)
  failureTests(t, startDouble)
  uploadTests(t, startDouble)
  boundsTests(t, startDouble)
  credentialTests(t, startDouble)
}
