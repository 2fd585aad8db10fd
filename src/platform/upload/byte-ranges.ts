import { GatewayError } from '../../errors.ts'
import type { PlatformHttp } from '../http/http.ts'
import type { PlatformResponse } from '../http/request.ts'
import type { Content } from '../platform.ts'
import { type ChunkedUpload, uploadInChunks } from './chunked-upload.ts'

/**
 * Sends content to a session of Google's resumable upload
 * (https://cloud.google.com/storage/docs/performing-resumable-uploads#chunked-upload), which accepts content of unknown
 * size: a chunk goes as `Content-Range: bytes FIRST-LAST/*`, and only the last one states the total. Every chunk but
 * the last must be a multiple of 256 KiB. The URL is called without the platform's credentials: it contains its own.
 * @param name the platform, for messages
 */
export async function uploadByteRanges(
  name: string,
  http: PlatformHttp,
  url: string,
  content: Content,
  options: Omit<ChunkedUpload, 'send' | 'currentOffset'>,
): Promise<void> {
  const { signal } = options
  /** The size, once the last chunk shows it. */
  let total: number | undefined

  /** @returns the offset that the session has reached; the end of the content only when the upload is complete */
  async function put(range: string, bytes: Uint8Array): Promise<number> {
    const answer = await http.send({
      operation: 'upload',
      method: 'PUT',
      url: http.uploadUrl(url),
      headers: { 'content-type': 'video/mp4', 'content-range': `bytes ${range}/${total ?? '*'}` },
      body: bytes,
      authorized: false,
      accept: [308, 404, 410],
      signal,
    })
    if (answer.status === 404 || answer.status === 410)
      throw new GatewayError(
        'platform-unavailable',
        `${name} lost the upload session. Upload again from the first byte.`,
      )
    if (answer.status !== 308) return endOf(total)
    const offset = offsetOf(name, answer)
    if (offset !== total) return offset
    throw new GatewayError('platform-unavailable', `${name} has every byte but does not complete the upload`)
  }

  /** @throws GatewayError when the session is complete before the last byte was sent */
  function endOf(size: number | undefined): number {
    if (size !== undefined) return size
    throw new GatewayError('platform-protocol-error', `${name} completed an upload before its last byte`)
  }

  await uploadInChunks(content, {
    ...options,
    currentOffset: () => put('*', new Uint8Array()),
    send({ bytes, start, end, last }) {
      if (last) total = end
      return put(`${start}-${end - 1}`, bytes)
    },
  })
}

/** Returns the offset after the received bytes: `Range: bytes=0-99` is 100, no Range is 0. */
function offsetOf(name: string, { headers }: PlatformResponse): number {
  if (headers.range === undefined) return 0
  const last = /^bytes=0-(\d+)$/.exec(String(headers.range))?.[1]
  if (last === undefined)
    throw new GatewayError('platform-protocol-error', `${name} returned an invalid Range header`)
  return Number(last) + 1
}
