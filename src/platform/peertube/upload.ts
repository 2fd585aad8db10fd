import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Type } from '@sinclair/typebox'
import { GatewayError } from '../../errors.ts'
import { fits, Id } from '../http/border.ts'
import { isThrottled } from '../http/failures.ts'
import { type PlatformHttp, parseJson } from '../http/http.ts'
import type { PlatformResponse } from '../http/request.ts'
import { type Content, VideoMissingError } from '../platform.ts'
import type { PlatformTools } from '../tools.ts'
import { defaultRetryPolicy, repeat, uploadInChunks } from '../upload/chunked-upload.ts'

/** Identifies a video: PeerTube stores the name of its source file. */
export interface Source {
  /** The source file's name, made of the gateway's id. */
  file: string
  title: string
}

/** The content of a slot's handle: an upload session. */
export interface Session extends Source {
  uploadId: string
  /** In bytes; until the last chunk it may be an upper bound. */
  size: number
}

interface Transfer {
  /** In bytes. */
  chunkSize: number
  signal: AbortSignal
  keep(session: Session): Promise<void>
}

/**
 * State of an upload session: an offset; locked by a chunk that arrives, or by an interrupted one that PeerTube has not
 * noticed yet; busy with the complete file (for an hour if that failed with 500); a video; or gone.
 */
export type SessionState = { offset: number } | 'locked' | 'busy' | { video: string } | 'gone'

/** Fields for opening a session, in addition to those of the adapter's configuration. */
interface NewVideo {
  /** Of the source file. */
  filename: string
  name: string
  channelId: number
}

const Uploaded = Type.Object({ video: Type.Object({ uuid: Id }) })
const Listed = Type.Object({
  data: Type.Array(Type.Object({ uuid: Id, name: Type.String(), createdAt: Type.Optional(Type.String()) })),
})
const Made = Type.Object({
  inputFilename: Type.Optional(Type.String()),
  filename: Type.Optional(Type.String()),
})

const Refusal = Type.Object({ code: Type.String() })

/** Used in a query, so it may contain more characters than other ids. */
const UploadId = Type.String({ pattern: '^[\\x21-\\x7e]{1,500}$' })

const path = '/api/v1/videos/upload-resumable'
/** Page size, the largest possible, and maximum number of pages when the account's videos are listed, newest first. */
const pageSize = 100
const maxPages = 50
/** Tolerated difference between the clocks of the instance and the gateway. Milliseconds. */
const clockMarginMs = 24 * 3_600_000

/**
 * The resumable upload of PeerTube, which is node-uploadx's protocol
 * (https://github.com/kukhariev/node-uploadx/blob/master/proto.md).
 */
export function resumableUpload(
  http: PlatformHttp,
  retryPolicy: PlatformTools['chunks'] = defaultRetryPolicy,
) {
  const at = ({ uploadId }: Session) => `${path}?upload_id=${encodeURIComponent(uploadId)}`
  const { attempts, firstDelay } = retryPolicy

  /** Opens a session for a video. A throttled request is retried: PeerTube did nothing for it. */
  async function open(video: NewVideo, size: number, signal: AbortSignal): Promise<Session> {
    const request = {
      operation: 'provision',
      method: 'POST',
      url: path,
      headers: { 'x-upload-content-length': String(size), 'x-upload-content-type': 'video/mp4' },
      // PeerTube identifies sessions by account, name, size and this: two uploads must never share one.
      json: { ...video, lastModified: randomUUID() },
      accept: [403, 404, 413],
      signal,
    } as const
    const answer = await repeat({ ...retryPolicy, signal }, isThrottled, () => http.send(request))
    if (answer.status === 413) throw tooLarge(answer)
    if (answer.status >= 400)
      throw new GatewayError(
        'platform-unauthorized',
        `peertube returned ${answer.status}: the account cannot publish in the channel ${video.channelId}`,
      )
    if (answer.status !== 201)
      throw new GatewayError('platform-protocol-error', 'peertube did not create an upload session')
    return { uploadId: uploadIdOf(answer.headers.location), file: video.filename, title: video.name, size }
  }

  /**
   * Sends the content. The session may have been opened with an upper bound of its size: node-uploadx accepts a smaller
   * total with a later chunk (`updateSize` in packages/core/src/storages/file.ts), and from then on rejects a larger
   * one. So the session is kept with the exact size before the last chunk states it.
   * @returns the video's id
   */
  async function transfer(opened: Session, content: Content, { chunkSize, signal, keep }: Transfer) {
    let session = opened
    let video: string | undefined

    async function currentOffset(): Promise<number> {
      const state = await querySession(session, signal)
      if (state === 'gone') throw new VideoMissingError('peertube')
      if (state === 'busy' || state === 'locked') throw uploadBusy()
      if ('offset' in state) return state.offset
      video = state.video
      return session.size
    }

    await uploadInChunks(content, {
      ...retryPolicy,
      chunkSize,
      signal,
      currentOffset,
      async send({ bytes, start, end, last }) {
        if (last && end < session.size) {
          session = { ...session, size: end }
          await keep(session)
        }
        const answer = await http.send({
          operation: 'upload',
          method: 'PUT',
          url: at(session),
          headers: {
            'content-type': 'application/octet-stream',
            'content-range': `bytes ${start}-${end - 1}/${session.size}`,
          },
          body: bytes,
          accept: last ? [308, 413, 422, 423, 500] : [308, 413, 423],
          signal,
        })
        if (answer.status === 413) throw tooLarge(answer)
        if (answer.status === 423) throw uploadBusy()
        if (answer.status === 308) return offsetOf(answer)
        if (answer.status !== 200) {
          // This session cannot become a video, although after a 500 PeerTube reports that it is processing.
          await cancel(session, signal)
          throw new GatewayError(
            'platform-rejected',
            'PeerTube could not process the file. Check the file and upload another.',
          )
        }
        video = parseJson('peertube', Uploaded, answer.body).video.uuid
        return end
      },
    }).catch((error) => {
      if (!(error instanceof VideoMissingError)) throw error
      // For example after a restart. The file is fine.
      throw new GatewayError(
        'platform-unavailable',
        'PeerTube lost the upload session. Upload again from the first byte.',
      )
    })
    if (video === undefined)
      throw new GatewayError(
        'platform-protocol-error',
        'peertube accepted the upload but returned no video id',
      )
    return video
  }

  /** Returns the state of a session. Once its video exists the session is gone, so it then searches for the video. */
  async function querySession(session: Session, signal: AbortSignal): Promise<SessionState> {
    const answer = await http.send({
      operation: 'upload',
      method: 'PUT',
      url: at(session),
      headers: { 'content-length': '0', 'content-range': `bytes */${session.size}` },
      // 403: a session of another account.
      accept: [308, 403, 404, 410, 423, 503],
      idempotent: true,
      signal,
    })
    if (answer.status === 308) return { offset: offsetOf(answer) }
    if (answer.status === 423) return 'locked'
    if (answer.status === 503) {
      if (isProcessing(answer)) return 'busy'
      throw new GatewayError('platform-unavailable', 'peertube returned 503')
    }
    if (answer.status === 200) return { video: parseJson('peertube', Uploaded, answer.body).video.uuid }
    const video = await findBySource(session, signal)
    return video === undefined ? 'gone' : { video }
  }

  async function findBySource(source: Source, signal: AbortSignal): Promise<string | undefined> {
    return (await findVideos(source, signal))[0]
  }

  /** Finds every video of the account with this source file, back to the time of the gateway's id. */
  async function findVideos({ file, title }: Source, signal: AbortSignal): Promise<string[]> {
    const call = { operation: 'find', method: 'GET', signal } as const
    const oldest = bornAt(file) - clockMarginMs
    const found: string[] = []
    for (let start = 0; start < pageSize * maxPages; start += pageSize) {
      const url = `/api/v1/users/me/videos?sort=-createdAt&start=${start}&count=${pageSize}`
      const { data } = await http.json(Listed, { ...call, url })
      for (const { uuid } of data.filter(({ name }) => name === title.trim())) {
        const path = `/api/v1/videos/${encodeURIComponent(uuid)}/source`
        const { status, body } = await http.send({ ...call, url: path, accept: [404] })
        if (status === 404) continue
        const made = parseJson('peertube', Made, body)
        if ((made.inputFilename ?? made.filename) === file) found.push(uuid)
      }
      if (data.length < pageSize || Date.parse(data.at(-1)?.createdAt ?? '') < oldest) break
    }
    return found
  }

  /**
   * Deletes a session. While PeerTube processes its file, the session may still become a video: the gateway waits for
   * that for a limited time.
   * @returns the video that the session became
   */
  async function dropSession(session: Session, signal: AbortSignal): Promise<string | undefined> {
    let state = await querySession(session, signal)
    for (let attempt = 1; attempt < attempts && state === 'busy'; attempt++) {
      const delay = firstDelay * 2 ** (attempt - 1)
      await sleep(delay, undefined, { signal }).catch(() => signal.throwIfAborted())
      state = await querySession(session, signal)
    }
    if (state === 'gone') return undefined
    if (typeof state === 'object' && 'video' in state) return state.video
    await cancel(session, signal)
    return state === 'busy' ? findBySource(session, signal) : undefined
  }

  /** Cancels a session and its bytes; it may already be gone. */
  async function cancel(session: Session, signal: AbortSignal): Promise<void> {
    await http.send({
      operation: 'remove',
      method: 'DELETE',
      url: at(session),
      accept: [404],
      signal,
    })
  }

  return { open, transfer, querySession, dropSession, findVideos }
}

/** PeerTube reports its own limits with a code. A 413 without one is from the proxy, and concerns a single chunk. */
function tooLarge({ body }: PlatformResponse): GatewayError {
  const limits: Record<string, string> = {
    quota_reached:
      'The video quota of the PeerTube account is used up. Tell the operator: free space or raise the quota.',
    max_file_size_reached: 'The file is larger than the PeerTube instance accepts.',
  }
  const limit = limits[codeOf(body)]
  return limit
    ? new GatewayError('platform-rejected', limit)
    : new GatewayError(
        'platform-rejected',
        'A proxy in front of PeerTube rejected a chunk as too large. Its body limit must exceed PEERTUBE_CHUNK_SIZE.',
      )
}

function codeOf(body: Buffer): string {
  try {
    return parseJson('peertube', Refusal, body).code
  } catch {
    return ''
  }
}

/** Returns the creation time of the id in the file's name, in ms since the epoch (UUIDv7, RFC 9562 §5.7). */
function bornAt(file: string): number {
  return Number.parseInt(file.replaceAll('-', '').slice(0, 12), 16)
}

/** Reads only the id from the Location: the path is known, and the host (`//host/…`) may be one of the proxy. */
function uploadIdOf(location: PlatformResponse['headers'][string]): string {
  const base = 'http://instance'
  const url =
    typeof location === 'string' && URL.canParse(location, base) ? new URL(location, base) : undefined
  const id = url?.searchParams.get('upload_id')
  if (!fits(UploadId, id))
    throw new GatewayError('platform-protocol-error', 'peertube returned no upload session')
  return id
}

/** Returns the offset after the received bytes: `Range: bytes=0-99` is 100, no Range is 0. */
function offsetOf({ headers }: PlatformResponse): number {
  const range = headers.range
  if (range === undefined) return 0
  const last = /^bytes=0-(-?\d+)$/.exec(String(range))?.[1]
  if (last === undefined)
    throw new GatewayError('platform-protocol-error', 'peertube returned an invalid Range header')
  return Number(last) + 1
}

/** Whether a 503 is PeerTube's “already being processed”, and not from an instance that is down or its proxy. */
function isProcessing({ headers }: PlatformResponse): boolean {
  const problem = String(headers['content-type']).startsWith('application/problem+json')
  return problem && headers['retry-after'] === '300'
}

/** Without PeerTube's `Retry-After` of 300 s: reading a complete file usually takes a moment. */
export function uploadBusy(): GatewayError {
  return new GatewayError('platform-unavailable', 'peertube is still processing the upload')
}
