import { randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { Type } from '@sinclair/typebox'
import { Id, requireSame, Word } from '../http/border.ts'
import type { PlatformHttp } from '../http/http.ts'
import type { PlatformRequest } from '../http/request.ts'
import type { Content } from '../platform.ts'
import type { PlatformTools } from '../tools.ts'
import { type Chunk, uploadInChunks } from '../upload/chunked-upload.ts'

interface Upload {
  videoId: string
  /** Path of the video. */
  path: string
  content: Content
  /** Bytes: how much goes in one request at most, and the size of a part beyond that. */
  limits: { single: number; part: number }
  /** How often a part is tried, see PlatformTools. */
  retryPolicy: PlatformTools['chunks']
  signal: AbortSignal
}

/** Values of `ingest.status` after the last part has arrived; the first two while the parts are merged. */
const complete = ['last_chunck_uploaded', 'merging', 'uploaded', 'ingested']

const Taken = Type.Object({ videoId: Id })
const Received = Type.Object({
  ingest: Type.Object({
    status: Type.Optional(Word),
    receivedParts: Type.Optional(Type.Object({ parts: Type.Optional(Type.Array(Type.Integer())) })),
  }),
})

/**
 * Sends the content as the multipart part `file`: in one request if it is known to fit, else in numbered parts with
 * `Content-Range: part <n>/<total>`, where the total is `*` until it is known
 * (https://docs.api.video/vod/progressive-upload).
 */
export async function uploadToApiVideo(http: PlatformHttp, upload: Upload): Promise<void> {
  const { size } = upload.content
  if (size !== null && size <= upload.limits.single) await uploadAtOnce(http, upload, size)
  else await uploadInParts(http, upload)
}

async function uploadAtOnce(http: PlatformHttp, { videoId, path, content, signal }: Upload, size: number) {
  const { head, tail, contentType } = envelope()
  async function* enclosed() {
    yield head
    yield* content.stream
    yield tail
  }
  const body = Readable.from(enclosed(), { objectMode: false })
  const length = head.length + size + tail.length
  await send(http, { videoId, path, headers: { 'content-type': contentType }, body, length, signal })
}

async function uploadInParts(http: PlatformHttp, upload: Upload) {
  const { videoId, path, content, limits, retryPolicy, signal } = upload
  const total = content.size === null ? undefined : Math.ceil(content.size / limits.part)
  let current: Chunk | undefined
  const numberOf = (chunk: Chunk) => Math.floor(chunk.start / limits.part) + 1

  await uploadInChunks(content, {
    ...retryPolicy,
    chunkSize: limits.part,
    signal,
    async send(chunk) {
      current = chunk
      const number = numberOf(chunk)
      const { head, tail, contentType } = envelope()
      const headers = {
        'content-type': contentType,
        'content-range': `part ${number}/${total ?? (chunk.last ? number : '*')}`,
      }
      const body = Buffer.concat([head, chunk.bytes, tail])
      await send(http, { videoId, path, headers, body, signal })
      return chunk.end
    },
    // Parts are accepted as a whole or not at all, and the last one is rejected once the file is complete.
    async currentOffset() {
      if (!current) return 0
      const url = `${path}/status`
      const { ingest } = await http.json(Received, { operation: 'upload', method: 'GET', url, signal })
      const taken =
        complete.includes(ingest.status ?? '') || ingest.receivedParts?.parts?.includes(numberOf(current))
      return taken ? current.end : current.start
    },
  })
}

type Source = Pick<Upload, 'videoId' | 'path'> &
  Pick<PlatformRequest, 'headers' | 'body' | 'length' | 'signal'>

async function send(http: PlatformHttp, { videoId, path, ...request }: Source): Promise<void> {
  const url = `${path}/source`
  const taken = await http.json(Taken, { operation: 'upload', method: 'POST', url, ...request })
  requireSame('api-video', videoId, taken.videoId)
}

/** Text before and after the bytes in a multipart body with the single part `file` (RFC 7578). */
function envelope() {
  const boundary = randomUUID()
  return {
    contentType: `multipart/form-data; boundary=${boundary}`,
    head: Buffer.from(
      `--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="video.mp4"\r\n` +
        'Content-Type: video/mp4\r\n\r\n',
    ),
    tail: Buffer.from(`\r\n--${boundary}--\r\n`),
  }
}
