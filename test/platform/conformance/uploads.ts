import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import { GatewayError } from '../../../src/errors.ts'
import { VideoMissingError } from '../../../src/platform/platform.ts'
import { contentOf, pacedContent, patient, type StartDouble, scenarios, stuckContent } from './setup.ts'

const MiB = 2 ** 20

/** Bytes on their way: sizes around the borders, cuts on either side, and memory. */
export function uploadTests(t: Test, start: StartDouble): void {
  const scenario = scenarios(t, start)
  const patiently = patient(scenario)
  scenario('every size arrives byte for byte', async (t, { double, platform, publication }) => {
    const unit = double.chunkSize ?? 65_536
    for (const size of [1, unit - 1, unit, unit + 1, 3 * unit, 3 * unit + 1]) {
      for (const declared of platform.lengthRequired ? [size] : [size, null]) {
        const video = publication()
        const bytes = randomBytes(size)
        await video.provision()
        await video.upload(contentOf(bytes, declared))
        t.ok(double.content(video.draft.title)?.equals(bytes), `${size} bytes, announced as ${declared}`)
      }
    }
  })

  patiently(
    'content whose size is only nearly known arrives byte for byte',
    async (t, { double, platform, publication }) => {
      const unit = double.chunkSize ?? 65_536
      for (const size of [1, unit - 1, unit, unit + 1, 3 * unit]) {
        for (const surplus of [0, 1, 2, 4]) {
          if (platform.lengthRequired && !platform.acceptsMaxSize?.(size + surplus)) continue
          const video = publication()
          const bytes = randomBytes(size)
          await video.provision()
          await video.upload(contentOf(bytes, null, size + surplus))
          t.ok(
            double.content(video.draft.title)?.equals(bytes),
            `${size} bytes, ${surplus} fewer than the bound`,
          )
          await platform.remove(video.slot, video.call())
        }
      }
    },
  )

  patiently(
    'an interrupted upload of content whose size is only nearly known leaves a slot that takes the next one',
    async (t, { double, platform, publication }) => {
      const unit = double.chunkSize ?? 200_000
      const bytes = randomBytes(3 * unit)
      if (platform.lengthRequired && !platform.acceptsMaxSize?.(bytes.length))
        return t.pass('it wants the size')
      for (const afterBytes of [0, unit - 1]) {
        const video = publication()
        await video.provision()
        double.fail('upload', { reset: { afterBytes } })
        const bounded = () => contentOf(bytes, null, bytes.length + 2)
        const content = bounded()
        await video.upload(content).catch(() => t.ok(content.stream.destroyed))
        if (!double.content(video.draft.title)?.equals(bytes)) await video.upload(bounded())
        t.ok(double.content(video.draft.title)?.equals(bytes), `${afterBytes}`)
      }
      const video = publication()
      await video.provision()
      const reason = new GatewayError(
        'incomplete-upload',
        'The connection ended before the whole body arrived. Upload again.',
      )
      const content = { ...stuckContent(MiB, 400_000), size: null, maxSize: MiB + 2 }
      const uploading = video.upload(content)
      void content.begun().then(() => content.stream.destroy(reason))
      await t.rejects(uploading)
      t.ok(content.stream.destroyed)
      await platform.remove(video.slot, video.call()).catch((error) => t.type(error, VideoMissingError))
    },
  )

  scenario(
    'an interrupted connection fails the upload or is recovered',
    async (t, { double, failure, publication }) => {
      const unit = double.chunkSize ?? 200_000
      const bytes = randomBytes(3 * unit)
      for (const afterBytes of [0, 1, unit - 1]) {
        const video = publication()
        await video.provision()
        double.fail('upload', { reset: { afterBytes } })
        const content = contentOf(bytes)
        if (double.chunkSize) await t.resolves(video.upload(content), 'the chunk is sent again')
        else {
          t.equal((await failure(video.upload(content))).code, 'platform-unavailable')
          t.ok(content.stream.destroyed)
          await video.upload(contentOf(bytes))
        }
        t.ok(double.content(video.draft.title)?.equals(bytes), `${afterBytes}`)
      }
    },
  )

  scenario(
    'an early rejection with a reset is reported like one without',
    async (t, { double, failure, platform, publication }) => {
      // More than what fits into the buffers of a connection, where it goes in one request.
      const bytes = randomBytes(double.chunkSize ? 3 * double.chunkSize : 24 * MiB)
      const json = { 'content-type': 'application/json' }
      for (const status of [308, 400, 401, 403, 404, 409, 413, 422, 429, 503]) {
        const headers = { ...json, ...(status === 429 && { 'retry-after': '60' }) }
        const told: unknown[] = []
        for (const abrupt of [false, true]) {
          const video = publication()
          await video.provision()
          double.fail('upload', { status, headers, body: '{}', abrupt }, 50)
          const content = pacedContent(bytes)
          const { code, message, retryAfter } = await failure(video.upload(content))
          told.push({ code, message, retryAfter })
          t.ok(content.stream.destroyed)
          double.clearFaults()
          await platform.remove(video.slot, video.call()).catch((error) => t.type(error, VideoMissingError))
        }
        t.strictSame(told[1], told[0], `${status}`)
      }
    },
    5_000,
  )

  scenario(
    'a chunk that fails once or whose response is lost is sent again',
    async (t, { double, publication }) => {
      if (!double.chunkSize) return t.pass('one request carries it all')
      const bytes = randomBytes(3 * double.chunkSize)
      const faults = [
        { status: 503 },
        { status: 429, headers: { 'retry-after': '1' } },
        { status: 503, abrupt: true },
        { status: 429, headers: { 'retry-after': '1' }, abrupt: true },
        { hang: true },
        { reset: { afterBytes: 0 }, late: true },
        { hang: true, late: true },
        ...(double.tokens ? [{ status: 401, body: '{}' }] : []),
      ]
      for (const fault of faults) {
        const video = publication()
        await video.provision()
        double.fail('upload', fault)
        await video.upload(contentOf(bytes))
        t.ok(double.content(video.draft.title)?.equals(bytes), JSON.stringify(fault))
        double.clearFaults()
      }
    },
  )

  scenario(
    'after an upload that keeps failing the slot accepts the next one',
    async (t, { double, failure, platform, publication }) => {
      const bytes = randomBytes(100_000)
      const faults = [
        [{ status: 503 }, 'platform-unavailable'],
        [{ status: 400, body: '{}' }, 'platform-rejected'],
        [{ hang: true }, 'platform-timeout'],
      ] as const
      for (const [fault, code] of faults) {
        const video = publication()
        await video.provision()
        double.fail('upload', fault, 50)
        const content = contentOf(bytes)
        t.equal((await failure(video.upload(content))).code, code)
        t.ok(content.stream.destroyed)
        double.clearFaults()
        t.match(
          await stateOrMissing(platform.status(video.slot, video.call())),
          /^(awaiting-upload|missing)$/,
        )
        await video.upload(contentOf(bytes))
        t.ok(double.content(video.draft.title)?.equals(bytes), code)
        await platform.remove(video.slot, video.call())
      }
      t.equal(double.leftovers(), 0, 'stale slots are cleared away')
    },
  )

  scenario(
    'the deletion of an aborted upload leaves nothing',
    async (t, { double, platform, publication }) => {
      const video = publication()
      await video.provision()
      const reason = new Error('the caller went away')
      const controller = new AbortController()
      const content = stuckContent(MiB, 400_000)
      const uploading = video.upload(content, controller.signal)
      setTimeout(() => controller.abort(reason), 200)
      await t.rejects(uploading, reason)
      t.ok(content.stream.destroyed)
      await platform.remove(video.slot, video.call()).catch((error) => t.type(error, VideoMissingError))
      t.equal(double.leftovers(), 0)
    },
  )

  scenario(
    'an upload interrupted by the client leaves a slot that awaits an upload',
    async (t, { double, platform, publication }) => {
      const video = publication()
      await video.provision()
      const content = stuckContent(MiB, 400_000)
      const uploading = video.upload(content)
      const reason = new GatewayError(
        'incomplete-upload',
        'The connection ended before the whole body arrived. Upload again.',
      )
      void content.begun().then(() => content.stream.destroy(reason))
      await t.rejects(uploading, reason)
      await delay(50)
      const { state } = await platform.status(video.slot, video.call())
      t.equal(state, 'awaiting-upload', 'what arrived in part is not taken for the video')

      const bytes = randomBytes(300_000)
      await video.upload(contentOf(bytes))
      t.ok(double.content(video.draft.title)?.equals(bytes), 'the next upload starts from the beginning')
      await platform.remove(video.slot, video.call())
      t.equal(double.leftovers(), 0)
    },
  )

  scenario(
    'backpressure of a platform that does not read reaches the client',
    async (t, { double, publication }) => {
      const video = publication()
      await video.provision()
      const release = double.holdUploads()
      const controller = new AbortController()
      const content = stuckContent(256 * MiB, 256 * MiB)
      const uploading = video.upload(content, controller.signal)
      await delay(300)
      const pulled = content.pulled()
      // What the sockets' buffers take beyond is the kernel's affair.
      t.ok(pulled < (double.chunkSize ?? 0) * 2 + 24 * MiB, `${pulled} bytes were taken`)
      controller.abort(new Error('enough'))
      await t.rejects(uploading, { message: 'enough' })
      release()
    },
  )

  scenario('an upload URL on a foreign host is not used', async (t, { double, failure, publication }) => {
    if (!double.giveUploadUrl) return t.pass('it gives none')
    const urls = [
      'http://169.254.169.254/latest/meta-data',
      'http://localhost:1/',
      'https://storage.googleapis.com.evil.example/upload',
      'https://evil.example/upload',
      'https://user:word@evil.example/',
      'file:///etc/passwd',
      '//evil.example/upload',
      '',
    ]
    for (const url of urls) {
      double.giveUploadUrl(url)
      const video = publication()
      const content = contentOf(randomBytes(1_000))
      let provisioned = false
      const uploading = video.provision().then(() => {
        provisioned = true
        return video.upload(content)
      })
      t.equal((await failure(uploading)).code, 'platform-protocol-error', url)
      t.equal(content.stream.destroyed, provisioned)
    }
    t.equal(double.calls('upload'), 0)
  })
}

function stateOrMissing(status: Promise<{ state: string }>): Promise<string> {
  return status.then(
    ({ state }) => state,
    (error) => {
      if (error instanceof VideoMissingError) return 'missing'
      throw error
    },
  )
}
