import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { request as open } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

/** Uploads to send at once, each `bytes` of content, raw or as a form. */
export interface Load {
  urls: string[]
  method: 'PUT' | 'POST'
  bytes: number
  form: boolean
  authorization: string
  /** Give up after so long, in ms: for loads that would take too long to the end. */
  cutAfter?: number
}

export interface LoadResult {
  seconds: number
  statuses: number[]
}

const boundary = '----bench7d1c3f6e0a4b'
const head = `--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="v.mp4"\r\nContent-Type: video/mp4\r\n\r\n`
const tail = `\r\n--${boundary}--\r\n`

// As good as what a codec leaves: no byte is likelier than another. Sent over and over.
const block = randomBytes(1024 * 1024)
const start = Buffer.from(block)
start.write('\0\0\0\x18ftypisom', 0, 'latin1')

process.on('message', async (load: Load) => {
  const started = performance.now()
  const signal = load.cutAfter === undefined ? undefined : AbortSignal.timeout(load.cutAfter)
  const statuses = await Promise.all(load.urls.map((url) => upload(url, load, signal)))
  const result: LoadResult = { seconds: (performance.now() - started) / 1000, statuses }
  process.send?.(result)
})
process.once('disconnect', () => process.exit())

/** @returns the status, 0 when the upload was cut */
async function upload(url: string, load: Load, signal: AbortSignal | undefined): Promise<number> {
  const { method, form, bytes, authorization } = load
  const request = open(url, {
    method,
    agent: false,
    headers: {
      authorization,
      'content-type': form ? `multipart/form-data; boundary=${boundary}` : 'video/mp4',
      'content-length': bytes + (form ? head.length + tail.length : 0),
    },
  })
  const answered = once(request, 'response')
  answered.catch(() => {})
  try {
    await pipeline(Readable.from(body(bytes, form), { highWaterMark: 1 }), request, { signal })
    const [response] = await answered
    response.resume()
    return response.statusCode
  } catch {
    return 0
  }
}

function* body(bytes: number, form: boolean): Generator<Buffer> {
  if (form) yield Buffer.from(head)
  for (let sent = 0; sent < bytes; sent += block.length) {
    yield (sent === 0 ? start : block).subarray(0, Math.min(block.length, bytes - sent))
  }
  if (form) yield Buffer.from(tail)
}
