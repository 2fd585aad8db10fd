import { randomBytes } from 'node:crypto'
import { inspect } from 'node:util'
import type { Test } from 'tap'
import { GatewayError } from '../../../src/errors.ts'
import type { ProcessingStatus, Slot, Thumbnail, VideoInfo } from '../../../src/platform/platform.ts'
import {
  hostilePaths,
  hostileTexts,
  hostileUrls,
  numbers,
  offsets,
  shapes,
  variationsOf,
} from './hostile-values.ts'
import { type Field, fieldsOf, fitsHeader, record, tamper, withValue } from './rewriting.ts'
import { contentOf, type Publication, patient, type Setup, type StartDouble, scenarios } from './setup.ts'

/** What an adapter makes of a platform whose responses have the right form and hostile values. */
export function borderTests(t: Test, start: StartDouble): void {
  const scenario = patient(scenarios(t, start))

  scenario('hostile values in responses about a video are rejected', async (t, setup) => {
    const { platform, double, publication } = setup
    const video = publication()
    await video.publish()
    const uploaded = video.slot
    await platform.status(uploaded, video.call())
    const { slot } = video
    const failed = publication()
    await failed.publish()
    double.failProcessing(failed.draft.title)
    const failedSlot = failed.slot
    const calls: [string, () => Promise<unknown>][] = [
      ['status', async () => judgeStatus(await platform.status(uploaded, video.call()))],
      ['status, failed', async () => judgeStatus(await platform.status(failedSlot, failed.call()))],
      ['info', async () => judgeInfo(await platform.info(slot, video.call()))],
      ['thumbnail', async () => judgeThumbnail(await platform.thumbnail(slot, video.call()))],
      ['find', async () => (await platform.find?.(video.draft, video.call()))?.forEach(judgeSlot)],
    ]
    const seen = new Set<string>()
    for (const [name, call] of calls) await tryAll(t, setup, name, call, seen)
  })

  scenario('hostile values in responses to a creation and an upload are rejected', async (t, setup) => {
    const { platform, publication } = setup
    await publication().publish()
    await tryAll(t, setup, 'upload', async () => {
      const video = publication()
      try {
        await makeSlot(video)
      } finally {
        judgeSlot(video.slot)
      }
      await platform.remove(video.slot, video.call())
    })
  })

  scenario(
    'a hostile id in the database does not change the request path',
    async (t, { platform, failure, publication }) => {
      for (const id of [...hostilePaths, ...hostileTexts].map((text) => String(JSON.parse(text)))) {
        if (/^[\w.~-]{1,255}$/.test(id) && !/^\.+$/.test(id)) continue
        const video = publication()
        const slot: Slot = { videoId: id, handle: null }
        const calls = {
          status: () => platform.status(slot, video.call()),
          info: () => platform.info(slot, video.call()),
          thumbnail: () => platform.thumbnail(slot, video.call()),
          remove: () => platform.remove(slot, video.call()),
        }
        for (const [name, call] of Object.entries(calls))
          t.match((await failure(call())).code, /^platform-/, `${name} ${id.slice(0, 40)}`)
      }
    },
  )

  scenario('impossible upload offsets are rejected', async (t, { double, publication }) => {
    const { chunkSize } = double
    if (!chunkSize) return t.pass('one request carries it all')
    const send = async (video: Publication) => {
      await video.provision()
      await video.upload(contentOf(randomBytes(2 * chunkSize)))
    }
    await publication().publish()
    const answers = await record(double, () => send(publication()))
    const field = fieldsOf(answers).find(({ header }) => header === 'upload-offset' || header === 'range')
    if (!field) return t.pass('it tells none')
    for (const value of offsets) {
      const error = await rejection(
        tamper(double, field.index, withValue(field, value), () => send(publication())),
      )
      t.equal((error as GatewayError | undefined)?.code, 'platform-protocol-error', value)
    }
  })

  scenario('images with an invalid size are rejected', async (t, setup) => {
    const { double, platform, publication } = setup
    const video = publication()
    await video.publish()
    await platform.status(video.slot, video.call())
    const call = async () => judgeThumbnail(await platform.thumbnail(video.slot, video.call()))
    const answers = await record(double, call)
    const index = answers.findIndex(({ body }) => Buffer.isBuffer(body))
    if (index < 0) return t.pass('none is measured')
    for (const [name, body] of Object.entries(images)) {
      const error = await rejection(tamper(double, index, (answer) => ({ ...answer, body }), call))
      t.equal((error as GatewayError | undefined)?.code, 'platform-protocol-error', name)
    }
  })
}

/**
 * Runs a call with each field of each response at each hostile value. It may succeed, where nothing hostile comes of
 * it, or fail in few words.
 */
async function tryAll(
  t: Test,
  { double, logged }: Setup,
  name: string,
  call: () => Promise<unknown>,
  seen = new Set<string>(),
) {
  let [tried, rejected] = [0, 0]
  for (const field of fieldsOf(await record(double, call))) {
    const attempt = (value: string) => rejection(tamper(double, field.index, withValue(field, value), call))
    for (const value of await valuesFor(field, attempt, seen)) {
      tried += 1
      const error = await attempt(value)
      const label = `${name}, response ${field.index}, ${field.header ?? field.keys.join('/')}: ${value.slice(0, 60)}`
      if (error === undefined) continue
      rejected += 1
      if (!(error instanceof GatewayError)) t.fail(`${label}: ${inspect(error)}`)
      else if (!/^platform-(protocol-error|rejected)$/.test(error.code) || error.message.length > 300)
        t.fail(`${label}: ${error.code} ${error.message.slice(0, 500)}`)
    }
  }
  t.comment(`${name}: ${tried} hostile values, ${rejected} rejected`)
  for (const line of logged) if (line.length > 500) t.fail(`${name}: a log line of ${line.length} characters`)
  t.ok(logged.length <= 150, `${name}: ${logged.length} lines are logged`)
}

/**
 * All that is hostile to the field. A few values are enough where the adapter does not read it, since anything is fine
 * there, and where the same field of another response has had them all.
 */
async function valuesFor(
  { value, header, keys }: Field,
  attempt: (value: string) => Promise<unknown>,
  seen: Set<string>,
): Promise<string[]> {
  // The path of a URL on the platform's own host is the platform's affair.
  const own = typeof value === 'string' && /^https?:|^\//.test(value)
  const texts = own
    ? [...hostileUrls, ...hostileTexts, ...variationsOf(value)]
    : [...hostilePaths, ...hostileUrls, ...hostileTexts]
  if (header !== undefined) return texts.filter(fitsHeader)
  const all = typeof value === 'number' ? [...numbers, ...shapes] : [...texts, ...shapes, '720']
  const name = keys.join().replaceAll(/\d+/g, '')
  const read = (await attempt('{}')) !== undefined
  if (read && !seen.has(name)) {
    seen.add(name)
    return all
  }
  return all.filter((_, index) => index % 12 === 0)
}

async function makeSlot(video: Publication): Promise<void> {
  await video.provision()
  await video.upload(contentOf(randomBytes(100)))
}

function rejection(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error) => error,
  )
}

function judge(fine: boolean, what: unknown): void {
  if (!fine) throw new Error(`the gateway would store or pass on ${inspect(what, { maxStringLength: 200 })}`)
}

function judgeSlot(slot: Slot | null): void {
  const { videoId = null, handle = null } = slot ?? {}
  judge(videoId === null || (/^[\w.~-]{1,255}$/.test(videoId) && !/^\.+$/.test(videoId)), slot)
  judge(handle === null || (handle.length < 2_000 && isClean(handle)), slot)
}

function judgeStatus(status: ProcessingStatus): void {
  judge(/^(awaiting-upload|processing|ready|failed)$/.test(status.state), status)
  if (status.state !== 'failed') return
  const { message } = status
  judge(/\S/.test(message) && message.length <= 500 && isClean(message), status)
}

function judgeInfo(info: VideoInfo): void {
  judge(isCleanUrl(info.launchUrl) && isEdge(info.width) && isEdge(info.height), info)
  judge(info.duration >= 0 && info.duration <= 864_000 && isValidity(info.validUntil), info)
}

function judgeThumbnail(thumbnail: Thumbnail): void {
  judge(isCleanUrl(thumbnail.url) && isEdge(thumbnail.width) && isEdge(thumbnail.height), thumbnail)
  judge(isValidity(thumbnail.validUntil), thumbnail)
}

const isEdge = (value: number) => Number.isInteger(value) && value >= 1 && value <= 65_535
const isValidity = (time = 0) => Number.isInteger(time) && time >= 0 && time < 253_402_300_800_000
const isClean = (text: string) => text.isWellFormed() && !/\p{Cc}/u.test(text)

function isCleanUrl(text: string): boolean {
  if (!/^https?:\/\/[\x21-\x7e]{1,5000}$/.test(text) || !URL.canParse(text)) return false
  const { username, password, href } = new URL(text)
  return username === '' && password === '' && href === text
}

const png = (width: number, height: number) => {
  const bytes = Buffer.from('89504e470d0a1a0a0000000d49484452000000000000000008060000001f15c489', 'hex')
  bytes.writeUInt32BE(width, 16)
  bytes.writeUInt32BE(height, 20)
  return bytes
}
const svg = '<svg xmlns="http://www.w3.org/2000/svg" width="640" height="360"/>'
const images: Record<string, Buffer> = {
  'no pixel': png(0, 0),
  'a width of zero': png(0, 360),
  'too wide': png(65_536, 360),
  'as wide as PNG allows': png(0x7fff_ffff, 0x7fff_ffff),
  'wider than that': png(0xffff_ffff, 1),
  'a truncated PNG': png(640, 360).subarray(0, 20),
  SVG: Buffer.from(svg),
  'SVG without bounds': Buffer.from(svg.replace('640', '1e308')),
  GIF: Buffer.from('474946383961800268010000', 'hex'),
  nothing: Buffer.alloc(0),
  noise: randomBytes(2_000),
}
