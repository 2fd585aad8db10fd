import { randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { GatewayError } from '../../errors.ts'
import type { PlatformHttp } from '../http/http.ts'
import type { Content } from '../platform.ts'

/**
 * The largest file by a form in bytes: 200 MB, less the lines of the form
 * (https://developers.cloudflare.com/stream/uploading-videos/direct-creator-uploads/#basic-post-request).
 */
export const maxFormBytes = 200_000_000 - 1_024

/**
 * Sends content to a one-time upload URL, as the part `file` of a form. The size of the content need not be known
 * exactly: `Content-Length` counts `maxSize` bytes for it, and the epilogue after the end of the form, which receivers
 * ignore (RFC 2046 §5.1.1), fills up the difference. The URL is called without the token, because it contains its own.
 */
export async function formUpload(
  http: PlatformHttp,
  url: string,
  content: Content,
  signal: AbortSignal,
): Promise<void> {
  const { maxSize } = content
  if (maxSize === undefined) throw new GatewayError('length-required')
  const boundary = `gateway-${randomUUID()}`
  const headers =
    'Content-Disposition: form-data; name="file"; filename="video.mp4"\r\nContent-Type: video/mp4'
  const head = Buffer.from(`--${boundary}\r\n${headers}\r\n\r\n`)
  const end = Buffer.from(`\r\n--${boundary}--\r\n`)
  const { status } = await http.send({
    operation: 'upload',
    method: 'POST',
    url: http.uploadUrl(url),
    headers: { 'content-type': `multipart/form-data; boundary=${boundary}` },
    body: Readable.from(form(), { objectMode: false, highWaterMark: 0 }),
    length: head.length + maxSize + end.length,
    authorized: false,
    accept: [404, 410],
    signal,
  })
  // The upload expired or was deleted on the platform. The file is fine.
  if (status >= 400)
    throw new GatewayError(
      'platform-unavailable',
      'The platform no longer accepts this upload. Upload again from the first byte.',
    )

  async function* form() {
    yield head
    let missing = content.maxSize ?? 0
    for await (const piece of content.stream as AsyncIterable<Buffer>) {
      missing -= piece.length
      yield piece
    }
    yield end
    if (missing > 0) yield Buffer.alloc(missing, '\r\n')
  }
}
