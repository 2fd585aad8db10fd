import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Type } from '@sinclair/typebox'
import { GatewayError } from '../../errors.ts'
import { Id } from '../http/border.ts'
import { isThrottled } from '../http/failures.ts'
import { type PlatformHttp, parseJson } from '../http/http.ts'
import { type Content, VideoMissingError } from '../platform.ts'
import type { PlatformTools } from '../tools.ts'
import { defaultRetryPolicy, repeat, uploadInChunks } from '../upload/chunked-upload.ts'
import { findVideos, type Source } from './find.ts'
import { isProcessing, offsetOf, tooLarge, uploadBusy, uploadIdOf } from './upload-responses.ts'

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

const path = '/api/v1/videos/upload-resumable'

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
    const video = await findVideo(session, signal)
    return video === undefined ? 'gone' : { video }
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
    return state === 'busy' ? findVideo(session, signal) : undefined
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

  /** Finds the video that a session became. */
  async function findVideo(source: Source, signal: AbortSignal): Promise<string | undefined> {
    return (await findVideos(http, source, signal))[0]
  }

  return { open, transfer, querySession, dropSession }
}
