import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { VideoMissingError } from '../../../src/platform/platform.ts'
import type { Fault, Operation } from '../double.ts'
import { contentOf, type Publication, type Setup, type StartDouble, scenarios } from './setup.ts'

/** What the contract makes of a platform that refuses, fails, lies or keeps silent. */
export function failureTests(t: Test, start: StartDouble): void {
  const scenario = scenarios(t, start)
  /** A finished video, and every method that only reads it. */
  async function published(setup: Setup) {
    const video = setup.publication()
    await video.publish()
    await setup.platform.status(video.slot, video.call())
    const { platform } = setup
    const reads: [Operation, () => Promise<unknown>][] = [
      ['status', () => platform.status(video.slot, video.call())],
      ['info', () => platform.info(video.slot, video.call())],
      ['thumbnail', () => platform.thumbnail(video.slot, video.call())],
    ]
    return { ...setup, video, reads, remove: () => platform.remove(video.slot, video.call()) }
  }

  scenario('a 404 means that the video is missing', async (t, setup) => {
    const { double, failure, reads, remove } = await published(setup)
    for (const [operation, read] of reads) {
      double.fail(operation, { status: 404, body: '{}' })
      t.type(await failure(read()), VideoMissingError, operation)
    }
    double.fail('remove', { status: 404, body: '{}' })
    await remove().catch((error) => t.type(error, VideoMissingError))
  })

  scenario('after a 5xx an idempotent call is repeated once', async (t, setup) => {
    const { double, failure, reads, remove } = await published(setup)
    for (const [operation, read] of reads) {
      double.fail(operation, { status: 503 })
      await t.resolves(read(), operation)
      double.fail(operation, { status: 502, body: '<html>' }, 2)
      t.equal((await failure(read())).code, 'platform-unavailable', operation)
    }
    double.fail('remove', { status: 500 })
    await t.resolves(remove())
    t.equal(double.leftovers(), 0)
  })

  const refusals: [string, Fault, string][] = [
    ['5xx', { status: 503 }, 'platform-unavailable'],
    ['a 4xx', { status: 400, body: '{}' }, 'platform-rejected'],
    ['a cut connection', { reset: { afterBytes: 0 } }, 'platform-unavailable'],
    ['no answer', { hang: true }, 'platform-timeout'],
    [
      'HTML',
      { status: 200, headers: { 'content-type': 'text/html' }, body: '<html>' },
      'platform-protocol-error',
    ],
    ['JSON that does not fit', { status: 200, body: { surprise: true } }, 'platform-protocol-error'],
  ]
  for (const [what, fault, code] of refusals) {
    scenario(
      `${what} at the making of a slot: it is not asked for twice`,
      async (t, { double, failure, publication }) => {
        const video = publication()
        double.fail('provision', fault)
        t.equal((await failure(makeSlot(video, double.provisionsAtUpload))).code, code)
        t.equal(double.calls('provision'), 1)
        await t.resolves(makeSlot(video, double.provisionsAtUpload), 'the next try works')
      },
    )
  }

  scenario('a throttled creation of a slot is retried, because nothing was created', async (t, setup) => {
    const { double, failure, publication } = setup
    const video = publication()
    double.fail('provision', { status: 429, headers: { 'retry-after': '0' } })
    await makeSlot(video, double.provisionsAtUpload)
    t.equal(double.calls('provision'), 2)
    t.equal(double.leftovers(), 1)
    double.fail('provision', { status: 429, headers: { 'retry-after': '60' } })
    const throttled = { code: 'platform-throttled', retryAfter: 60 }
    t.match(await failure(makeSlot(publication(), double.provisionsAtUpload)), throttled)
    t.equal(double.calls('provision'), 3, 'a long wait is the caller’s to plan')
    t.equal(double.leftovers(), 1)
  })

  scenario('the Retry-After of a 429 is passed on', async (t, setup) => {
    const { double, failure, reads } = await published(setup)
    for (const [operation, read] of reads) {
      double.fail(operation, { status: 429, headers: { 'retry-after': '7' } })
      t.match(await failure(read()), { code: 'platform-throttled', retryAfter: 7 }, operation)
    }
  })

  scenario('an unexpected response is a protocol error', async (t, setup) => {
    const { double, failure, reads } = await published(setup)
    for (const [operation, read] of reads) {
      for (const body of ['<html><h1>Welcome</h1>', '', 'null', '[]', '{"data":null}', '{"surprise":1}']) {
        double.fail(operation, { status: 200, body })
        t.equal((await failure(read())).code, 'platform-protocol-error', `${operation}: ${body}`)
      }
    }
  })

  scenario('a missing response and an interrupted connection have their errors', async (t, setup) => {
    const { double, failure, reads } = await published(setup)
    for (const [operation, read] of reads) {
      double.fail(operation, { hang: true }, 2)
      t.equal((await failure(read())).code, 'platform-timeout', operation)
      double.fail(operation, { reset: { afterBytes: 0 } })
      await t.resolves(read(), 'repeated')
    }
  })

  scenario('a call that is aborted ends immediately, with the reason', async (t, setup) => {
    const { double, platform, publication, video } = await published(setup)
    const { slot } = video
    const calls: [Operation, (signal: AbortSignal) => Promise<unknown>][] = [
      ['status', (signal) => platform.status(slot, video.call(signal))],
      ['info', (signal) => platform.info(slot, video.call(signal))],
      ['thumbnail', (signal) => platform.thumbnail(slot, video.call(signal))],
      ['remove', (signal) => platform.remove(slot, video.call(signal))],
      ['provision', (signal) => makeSlot(publication(), double.provisionsAtUpload, signal)],
    ]
    for (const [operation, run] of calls) {
      for (const fault of [{ hang: true }, { status: 503, headers: { 'retry-after': '5' } }]) {
        if (operation === 'provision' && fault.status) continue
        double.fail(operation, fault)
        const reason = new Error('enough')
        const controller = new AbortController()
        const before = double.calls(operation)
        const call = run(controller.signal)
        call.catch(() => {})
        // A request that arrives after its end would take the next one's fault.
        while (double.calls(operation) === before) await sleep(5)
        setTimeout(() => controller.abort(reason), 50)
        await t.rejects(call, reason, `${operation} ${JSON.stringify(fault)}`)
        double.clearFaults()
      }
    }
  })

  scenario('rejected credentials are platform-unauthorized', async (t, setup) => {
    const { double, failure, reads, platform, video } = await published(setup)
    for (const status of [401, 403]) {
      for (const [operation, read] of reads) {
        double.fail(operation, { status, body: '{}' }, 2)
        t.equal((await failure(read())).code, 'platform-unauthorized', `${operation} ${status}`)
      }
      double.clearFaults()
    }
    await t.resolves(platform.status(video.slot, video.call()))
  })

  scenario(
    'a token endpoint that issues no token has its error',
    async (t, { double, failure, publication }) => {
      if (!double.tokens) return t.pass('its credentials are permanent')
      const faults: [Fault, string][] = [
        [{ status: 401, body: { error: 'invalid_client' } }, 'platform-unauthorized'],
        [{ status: 503, body: 'down' }, 'platform-unavailable'],
        // Not `the video is gone`, which callers would believe.
        [{ status: 404, body: '<html>' }, 'platform-protocol-error'],
        [{ hang: true }, 'platform-timeout'],
      ]
      const video = publication()
      for (const [fault, code] of faults) {
        // Twice: a renewal that fails may lead to a new login.
        double.fail('token', fault, 2)
        t.equal((await failure(makeSlot(video, double.provisionsAtUpload))).code, code)
        double.clearFaults()
        const asked = double.calls('token')
        const again = await failure(makeSlot(video, double.provisionsAtUpload))
        t.match(again, { code, retryAfter: 1 }, 'the next call gets the same error')
        t.equal(double.calls('token'), asked, 'without another request')
        await sleep(1_100)
        await t.resolves(makeSlot(video, double.provisionsAtUpload), 'the next try works')
        double.tokens.revoke()
      }
    },
  )

  const patience = 20_000
  const firstCalls = async (t: Test, { double, platform, publication }: Setup) => {
    const { tokens } = double
    if (!tokens) return t.pass('its credentials are permanent')
    const videos = Array.from({ length: 100 }, () => publication())
    await Promise.all(videos.map((video) => makeSlot(video, double.provisionsAtUpload)))
    t.equal(tokens.requests(), 1)

    tokens.revoke()
    await Promise.all(videos.map((video) => platform.status(video.slot, video.call())))
    t.equal(tokens.requests(), 2, 'a revoked one is replaced, once')
    tokens.revoke()
    await t.resolves(publication().publish(), 'and so it is where nothing is repeated otherwise')
  }
  scenario('100 concurrent first calls request one token', firstCalls, patience)
}

async function makeSlot(video: Publication, atUpload: boolean, signal?: AbortSignal): Promise<void> {
  await video.provision(signal)
  if (atUpload) await video.upload(contentOf(randomBytes(100)), signal)
}
