import type { Test } from 'tap'
import type { StartDouble } from './setup.ts'
import { scenarios } from './setup.ts'

const { signal } = new AbortController()

/** What the contract says of the check of credentials. */
export function credentialTests(t: Test, start: StartDouble): void {
  const scenario = scenarios(t, start)

  scenario('the check of valid credentials succeeds and leaves nothing', async (t, { double, platform }) => {
    await platform.checkCredentials(signal)
    await platform.checkCredentials(signal)
    t.equal(double.leftovers(), 0)
    t.ok(double.calls('find') > 0, 'the platform was asked')
  })

  for (const status of [401, 403]) {
    scenario(
      `credentials that the platform answers with ${status}`,
      async (t, { double, platform, failure }) => {
        double.fail('find', { status }, 4)
        t.equal((await failure(platform.checkCredentials(signal))).code, 'platform-unauthorized')
      },
    )
  }

  scenario(
    'an unavailable platform does not make credentials invalid',
    async (t, { double, platform, failure }) => {
      double.fail('find', { status: 503 }, 4)
      t.equal((await failure(platform.checkCredentials(signal))).code, 'platform-unavailable')
      double.clearFaults()
      double.fail('find', { hang: true }, 4)
      t.equal((await failure(platform.checkCredentials(signal))).code, 'platform-timeout')
    },
  )

  scenario('the check ends with its signal', async (t, { double, platform }) => {
    double.fail('find', { hang: true }, 4)
    await t.rejects(platform.checkCredentials(AbortSignal.timeout(50)), { name: 'TimeoutError' })
  })
}
