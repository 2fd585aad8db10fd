import { createHash } from 'node:crypto'
import type { Exchange } from '../double.ts'

interface Session {
  size: number
  video: Record<string, unknown>
  bytes: Buffer
}

export interface NewVideo {
  name: string
  filename: string
}

/** What a file begins with that PeerTube cannot make a video of, and the status it is refused with. */
export const brokenFiles = { unreadable: 422, undecodable: 500 } as const

/** The resumable uploads of PeerTube's double: node-uploadx with its storage on a disk. */
export function createUploads(instance: {
  channelId: number
  wrong(complaint: string): void
  /** An upload is complete. @returns what the answer says of the video */
  finished(video: NewVideo, content: Buffer): object
}) {
  const { channelId, wrong, finished } = instance
  const sessions = new Map<string, Session>()
  /** With a chunk that is arriving, and with one whose cut has not been noticed yet. */
  const arriving = new Set<string>()
  const cut = new Set<string>()
  /** The complete file is being processed; after a failure PeerTube goes on saying so for an hour. */
  const processing = new Set<string>()

  async function handle(exchange: Exchange) {
    const { method, url } = exchange
    if (method === 'POST') return openSession(exchange)
    const id = url.searchParams.get('upload_id') ?? ''
    if (!id.startsWith('1-')) return exchange.answer(403, uploadxError('Forbidden'))
    if (method === 'DELETE') {
      sessions.delete(id)
      processing.delete(id)
      return exchange.answer(204)
    }
    const session = sessions.get(id)
    if (!session) return exchange.answer(404, uploadxError('FileNotFound'))
    if (arriving.has(id) || cut.delete(id)) return exchange.answer(423, uploadxError('FileLocked'))
    arriving.add(id)
    await receive(exchange, id, session)
    arriving.delete(id)
  }

  async function openSession(exchange: Exchange) {
    const { headers, url } = exchange
    const video = await exchange.json()
    const size = Number(headers['x-upload-content-length'])
    if (!Number.isInteger(size) || size < 1) wrong(`X-Upload-Content-Length: ${size}`)
    if (headers['x-upload-content-type'] !== 'video/mp4') wrong('X-Upload-Content-Type is not video/mp4')
    if (headers['content-type'] !== 'application/json') wrong('a session is not asked for with JSON')
    for (const complaint of complaintsOf(video, channelId)) wrong(complaint)
    const traits = [video.name, size, video.lastModified ?? Date.now()]
    const id = `1-${createHash('md5').update(traits.join()).digest('hex')}.mp4`
    const session = sessions.get(id) ?? { size, video, bytes: Buffer.alloc(0) }
    sessions.set(id, session)
    const location = `//${headers.host}${url.pathname}?upload_id=${id}`
    exchange.answer(session.bytes.length > 0 ? 200 : 201, undefined, { location })
  }

  async function receive(exchange: Exchange, id: string, session: Session) {
    const { headers } = exchange
    if (headers['transfer-encoding'] || headers['content-length'] === undefined)
      wrong('a chunk without Content-Length')
    const { bytes, complete } = await exchange.body()
    const [, from, to, total] = /^bytes (?:(\d+)-(\d+)|\*)\/(\d+)$/.exec(headers['content-range'] ?? '') ?? []
    // As uploadx: the total may become smaller, and never larger again. The gateway lets it only with the last chunk.
    const last = to === undefined ? session.bytes.length : Number(to) + 1
    if (Number(total) > session.size || last > Number(total)) {
      wrong(`Content-Range: ${headers['content-range']}`)
      return exchange.answer(409, uploadxError('FileConflict'))
    }
    if (Number(total) < session.size && to !== undefined && last !== Number(total))
      wrong(`Content-Range: ${headers['content-range']} before the last chunk of ${session.size} bytes`)
    session.size = Number(total)
    if (from === undefined) {
      if (bytes.length > 0) wrong('bytes in a question')
      return answerProgress(exchange, id, session)
    }
    if (headers['content-type'] !== 'application/octet-stream')
      return exchange.answer(413, problem(413, 'a chunk of another type'))
    if (Number(headers['content-length']) !== Number(to) - Number(from) + 1)
      wrong(`Content-Length ${headers['content-length']} for ${headers['content-range']}`)
    write(exchange, bytes)
    if (complete) answerProgress(exchange, id, session)
  }

  /** Writes a chunk where it says it belongs. PeerTube takes one behind a gap, and the file is spoilt then. */
  function write({ url, headers }: Exchange, bytes: Buffer): void {
    const session = sessions.get(url.searchParams.get('upload_id') ?? '')
    const from = /^bytes (\d+)-/.exec(headers['content-range'] ?? '')?.[1]
    if (!session || from === undefined) return
    if (Number(from) > session.bytes.length) wrong('a chunk behind a gap')
    session.bytes = Buffer.concat([session.bytes.subarray(0, Number(from)), bytes])
  }

  function answerProgress(exchange: Exchange, id: string, { size, video, bytes }: Session) {
    if (bytes.length < size) return exchange.answer(308, undefined, { range: `bytes=0-${bytes.length - 1}` })
    if (processing.has(id)) return exchange.answer(503, atWork, { ...problemType, 'retry-after': '300' })
    const refusal = Object.entries(brokenFiles).find(([start]) => bytes.toString('latin1').startsWith(start))
    if (refusal) processing.add(id)
    if (refusal?.[1] !== 500) sessions.delete(id)
    if (refusal) return exchange.answer(refusal[1], problem(refusal[1], refusal[0]), problemType)
    exchange.answer(200, { video: finished(video as unknown as NewVideo, bytes) })
  }

  return {
    handle,
    open: () => sessions.size,
    /** What arrived of a chunk before the connection broke is on the disk, and the lock stays for a moment. */
    cut(exchange: Exchange, bytes: Buffer) {
      if (exchange.method !== 'PUT') return
      write(exchange, bytes)
      cut.add(exchange.url.searchParams.get('upload_id') ?? '')
    },
  }
}

/** What PeerTube's validators would refuse in a new video. */
function complaintsOf(video: Record<string, unknown>, channelId: number): string[] {
  const {
    name,
    description,
    channelId: channel,
    privacy,
    waitTranscoding,
    filename,
    lastModified,
    ...rest
  } = video
  const checks: [boolean, string][] = [
    [isText(name, 3, 120), `name ${name}`],
    [description === undefined || isText(description, 3, 10_000), `description ${description}`],
    [channel === channelId, `channelId ${channel}`],
    [Number.isInteger(privacy), `privacy ${privacy}`],
    [waitTranscoding === true, `waitTranscoding ${waitTranscoding}`],
    [/^[^/]+\.mp4$/.test(String(filename)), `filename ${filename}`],
    [isText(lastModified, 1, 50), `lastModified ${lastModified}`],
    [Object.keys(rest).length === 0, `unknown fields ${Object.keys(rest)}`],
  ]
  return checks.filter(([fine]) => !fine).map(([, what]) => `a new video with ${what}`)
}

function isText(value: unknown, min: number, max: number): boolean {
  return typeof value === 'string' && value.trim().length >= min && value.trim().length <= max
}

const uploadxError = (code: string) => ({ error: { code, message: code } })

export const problemType = { 'content-type': 'application/problem+json' }
/** PeerTube's problem documents, which carry their text once more as `error`. */
export const problem = (status: number, code: string) => ({
  type: `https://docs.joinpeertube.org/api-rest-reference.html#section/Errors/${code}`,
  detail: code,
  error: code,
  status,
  code,
})
const atWork = problem(503, 'The upload is already being processed')
