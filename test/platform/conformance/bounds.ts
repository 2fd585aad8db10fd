import { randomBytes } from 'node:crypto'
import { brotliCompressSync, gzipSync } from 'node:zlib'
import type { Test } from 'tap'
import type { VideoPlatform } from '../../../src/platform/platform.ts'
import type { Fault, Operation } from '../double.ts'
import { huge, slow, type Wire } from '../wire.ts'
import { contentOf, type Setup, type StartDouble, scenarios } from './setup.ts'

/** What the contract makes of a platform whose responses never end: each has a longest time and a largest size. */
export function boundsTests(t: Test, start: StartDouble): void {
  const scenario = scenarios(t, start)

  /** Every request that an adapter makes, by one that shares nothing with the others, its token included. */
  async function requests({ double, platform, publication, another }: Setup) {
    const video = publication()
    await video.publish()
    // The platform's answer may have changed the slot, as an id that it gives late.
    await platform.status(video.slot, video.call())
    const bytes = () => contentOf(randomBytes(1_000))
    const { slot } = video
    const list: [Operation, (platform: VideoPlatform) => Promise<unknown>][] = [
      ['status', (platform) => platform.status(slot, video.call())],
      ['info', (platform) => platform.info(slot, video.call())],
      ['thumbnail', (platform) => platform.thumbnail(slot, video.call())],
      ['remove', (platform) => platform.remove(slot, video.call())],
      [
        'provision',
        async (platform) => {
          const other = publication()
          const made = await platform.provision(other.draft, other.call())
          if (double.provisionsAtUpload) await platform.upload(made, other.draft, bytes(), other.call())
        },
      ],
      [
        'upload',
        async (platform) => {
          const other = publication()
          const made = await platform.provision(other.draft, other.call())
          await platform.upload(made, other.draft, bytes(), other.call())
        },
      ],
    ]
    if (double.tokens) list.push(['token', (platform) => platform.status(slot, video.call())])
    return list.map(
      ([operation, run]) => [operation, () => run(another({ answer: 5_000, ...deadline }))] as const,
    )
  }
  const deadline = { whole: 500, afterUpload: 500 }

  for (const [index, wire] of Object.keys(slow).entries()) {
    scenario(`every call ends if the platform responds with ${wire}`, async (t, setup) => {
      // Two or three of these for each operation; `http/deadline.test.ts` has them all.
      for (const [place, [operation, run]] of (await requests(setup)).entries()) {
        if ((place + index) % 3 !== 0) continue
        setup.double.fail(operation, { wire: wire as Wire }, 20)
        const { code } = await setup.failure(run())
        t.equal(code, 'platform-timeout', operation)
        setup.double.clearFaults()
      }
    })
  }

  // Nothing here is a matter of time, so that a busy machine makes no difference.
  const patient = { answer: 60_000, whole: 60_000, afterUpload: 60_000 }
  const inflating = Buffer.from(' '.repeat(8 * 2 ** 20))
  const json = { 'content-type': 'application/json' }
  const faults: [string, Fault][] = [
    ...Object.keys(huge).map((wire): [string, Fault] => [wire, { wire: wire as Wire }]),
    ['gzip', { status: 200, headers: { ...json, 'content-encoding': 'gzip' }, body: gzipSync(inflating) }],
    [
      'br',
      { status: 200, headers: { ...json, 'content-encoding': 'br' }, body: brotliCompressSync(inflating) },
    ],
    ['5 MiB', { status: 200, headers: json, body: Buffer.alloc(5 * 2 ** 20, ' ') }],
  ]
  scenario('oversized and compressed responses are rejected', async (t, setup) => {
    for (const [operation, run] of await requests({ ...setup, another: () => setup.another(patient) })) {
      for (const [what, fault] of faults) {
        setup.double.fail(operation, fault, 20)
        t.equal((await setup.failure(run())).code, 'platform-protocol-error', `${operation}: ${what}`)
        setup.double.clearFaults()
      }
    }
  })
}
