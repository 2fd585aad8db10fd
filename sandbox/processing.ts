import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Fault } from './fault.ts'
import { type Facts, processMedia, writePretendedPoster } from './media.ts'
import type { Clip, Platform } from './platform.ts'
import { notify } from './webhooks.ts'

/** The uploaded file, kept as the download. */
export const ORIGINAL = 'original.mp4'

/** Takes a clip that has its bytes from `queued` to `live` or `failed`. Never rejects. */
export async function processClip(platform: Platform, clip: Clip, discarded: boolean): Promise<void> {
  const { signal } = clip.gone
  try {
    clip.state = 'queued'
    await delay(platform.knobs.processing_delay_ms, undefined, { signal })
    clip.state = 'transcoding'
    clip.progress = 5
    await delay(platform.knobs.processing_delay_ms, undefined, { signal })
    failWhenTold(platform)
    const facts = discarded ? await pretend(clip) : await work(clip)
    signal.throwIfAborted()
    Object.assign(clip, { facts, state: 'live', progress: 100 })
    void notify(platform, clip)
  } catch (error) {
    if (signal.aborted) return
    const { kind, message } = error instanceof Fault ? error : { kind: 'internal', message: String(error) }
    Object.assign(clip, { state: 'failed', failure: { kind, text: message } })
    void notify(platform, clip)
    await rm(clip.directory, { recursive: true, force: true })
  }
}

function work(clip: Clip): Promise<Facts> {
  return processMedia(join(clip.directory, ORIGINAL), clip.directory, {
    signal: clip.gone.signal,
    progress: (percent) => {
      clip.progress = percent
    },
  })
}

async function pretend(clip: Clip): Promise<Facts> {
  const poster = await writePretendedPoster(clip.directory)
  return { frame: { w: 1280, h: 720 }, length_ms: 10_000, poster }
}

function failWhenTold({ knobs }: Platform): void {
  const failure = knobs.fail_processing
  if (!failure) return
  knobs.fail_processing = null
  throw new Fault(422, failure.kind, failure.text)
}
