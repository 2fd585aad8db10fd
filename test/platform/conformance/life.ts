import { randomBytes } from 'node:crypto'
import type { Test } from 'tap'
import { VideoMissingError } from '../../../src/platform/platform.ts'
import { contentOf, type StartDouble, scenarios } from './setup.ts'

/** The life of a video, and what its states are called. */
export function lifeTests(t: Test, start: StartDouble): void {
  const scenario = scenarios(t, start)
  scenario(
    'a video passes through its lifecycle from slot to deletion',
    async (t, { double, failure, platform, publication }) => {
      const video = publication()
      const { draft } = video
      const bytes = randomBytes(50_000)

      await video.provision()
      if (double.provisionsAtUpload) {
        t.strictSame(video.slot, { videoId: null, handle: null })
        t.equal(double.leftovers(), 0)
      } else {
        t.equal(double.leftovers(), 1)
        t.strictSame(await platform.status(video.slot, video.call()), { state: 'awaiting-upload' })
      }
      const content = contentOf(bytes)
      await video.upload(content)
      t.ok(double.content(draft.title)?.equals(bytes), 'byte for byte')
      t.ok(content.stream.readableEnded)
      t.strictSame(await platform.status(video.slot, video.call()), { state: 'processing' })

      double.finish(draft.title)
      t.strictSame(await platform.status(video.slot, video.call()), { state: 'ready' })
      t.type(video.slot.videoId, 'string', 'by now the platform’s id is known')
      const { info, thumbnail } = double.expected(draft.title)
      t.strictSame(await platform.info(video.slot, video.call()), info)
      t.strictSame(await platform.thumbnail(video.slot, video.call()), thumbnail)

      await platform.remove(video.slot, video.call())
      t.equal(double.leftovers(), 0)
      t.type(await failure(platform.status(video.slot, video.call())), VideoMissingError)
      await platform.remove(video.slot, video.call()).catch((error) => t.type(error, VideoMissingError))
    },
  )

  scenario(
    'info and thumbnail return the current URLs of a replaced playlist and image',
    async (t, { double, platform, publication }) => {
      const video = publication()
      await video.publish()
      const read = async () => ({
        // What the adapter learns on the way to ready counts no more than what the platform says now.
        status: await platform.status(video.slot, video.call()),
        info: await platform.info(video.slot, video.call()),
        thumbnail: await platform.thumbnail(video.slot, video.call()),
      })
      const before = await read()
      double.rename(video.draft.title)
      const after = await read()
      t.strictSame(after, { status: { state: 'ready' }, ...double.expected(video.draft.title) })
      t.not(after.info.launchUrl, before.info.launchUrl)
      t.not(after.thumbnail.url, before.thumbnail.url)
    },
  )

  scenario('a slot can be deleted before its upload', async (t, { double, platform, publication }) => {
    const video = publication()
    await video.provision()
    await platform.remove(video.slot, video.call()).catch((error) => t.type(error, VideoMissingError))
    t.equal(double.leftovers(), 0)
  })

  scenario(
    'only the slot of an interrupted creation is found',
    async (t, { double, platform, publication }) => {
      if (!platform.find) return t.pass('the platform cannot be asked')
      const [video, stranger] = [publication(), publication()]
      await video.provision()
      t.strictSame(await platform.find(stranger.draft, stranger.call()), [])
      const [found] = await platform.find(video.draft, video.call())
      if (double.provisionsAtUpload) return t.equal(found, undefined)
      const bytes = randomBytes(100)
      await platform.upload(found!, video.draft, contentOf(bytes), video.call())
      t.ok(double.content(video.draft.title)?.equals(bytes), 'the slot that was found accepts an upload')
    },
  )

  scenario('every status value of the vendor has its state', async (t, setup) => {
    const { double, platform, publication, logged } = setup
    for (const [word, expect] of Object.entries(double.statusWords)) {
      const video = publication()
      await video.provision()
      await video.upload(contentOf(randomBytes(100)))
      double.setStatus(video.draft.title, word)
      const status = await platform.status(video.slot, video.call())
      t.equal(status.state, expect, word)
      if (status.state === 'failed') t.match(status.message, /\w/, 'with a message')
    }
    t.notMatch(logged.join(), /unknown stat/, 'and none is new to the adapter')
  })

  scenario(
    'an unknown status value means processing, with a warning',
    async (t, { double, platform, publication, logged }) => {
      const video = publication()
      await video.publish()
      double.setStatus(video.draft.title, double.unknownStatusWord)
      t.strictSame(await platform.status(video.slot, video.call()), { state: 'processing' })
      t.match(logged.join(), double.unknownStatusWord)
    },
  )

  scenario('failed processing has the vendor’s reason', async (t, { double, platform, publication }) => {
    const video = publication()
    await video.publish()
    const text = double.failProcessing(video.draft.title)
    const status = await platform.status(video.slot, video.call())
    t.equal(status.state, 'failed')
    t.match('message' in status ? status.message : '', text)
    await platform.remove(video.slot, video.call())
    t.equal(double.leftovers(), 0)
  })

  scenario(
    'metadata that is not available yet is requested again later',
    async (t, { double, platform, publication, failure }) => {
      if (!double.finishWithoutMetadata) return t.pass('it always is there')
      const video = publication()
      await video.publish()
      double.finishWithoutMetadata(video.draft.title)
      const { state } = await platform.status(video.slot, video.call())
      t.match(state, /^(ready|processing)$/)
      if (state === 'ready')
        t.equal((await failure(platform.info(video.slot, video.call()))).code, 'platform-protocol-error')
      double.finish(video.draft.title)
      const { info } = double.expected(video.draft.title)
      t.strictSame(await platform.info(video.slot, video.call()), info)
    },
  )
}
