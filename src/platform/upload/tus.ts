import { GatewayError } from '../../errors.ts'
import type { PlatformHttp } from '../http/http.ts'
import type { PlatformResponse } from '../http/request.ts'
import { type Content, VideoMissingError } from '../platform.ts'
import { type ChunkedUpload, uploadInChunks } from './chunked-upload.ts'

type Headers = PlatformResponse['headers']

export interface TusCreation {
  /** URL for creating uploads, absolute or relative to the platform's base URL. */
  url: string
  /** In bytes. */
  size: number
  /** Keys in ASCII without space and comma; the values may be anything. */
  metadata: Record<string, string>
  /** Headers that the platform requires in addition to those of the protocol. */
  headers?: Record<string, string>
  signal: AbortSignal
}

const version = { 'tus-resumable': '1.0.0' }
/** Transient statuses: another offset, a locked upload. Servers return them for HEAD as well as for PATCH. */
const busy = [409, 423]
/** Statuses of an upload that no longer exists. */
const gone = [404, 410]
const accept = [...busy, ...gone]

/**
 * Creates an upload on a tus server (tus 1.0.0, extension "Creation", https://tus.io/protocols/resumable-upload).
 * Nothing is retried: if the response is lost, the upload may or may not exist.
 * @returns the headers of the response: `location` is for {@link uploadByTus}, the others are specific to the platform
 */
export async function createTusUpload(http: PlatformHttp, creation: TusCreation): Promise<Headers> {
  const { url, size, metadata, headers, signal } = creation
  const answer = await http.send({
    operation: 'provision',
    method: 'POST',
    url,
    headers: {
      ...version,
      'upload-length': String(size),
      'upload-metadata': encodeMetadata(metadata),
      ...headers,
    },
    signal,
  })
  if (answer.status === 201) return answer.headers
  throw new GatewayError(
    'platform-protocol-error',
    `the tus server returned ${answer.status} for a new upload`,
  )
}

/**
 * Sends the content to an upload that was just created (tus 1.0.0, "Core Protocol", requests PATCH and HEAD). The URL
 * is called without the gateway's token: it carries its own authority.
 */
export async function uploadByTus(
  http: PlatformHttp,
  location: Headers[string],
  content: Content,
  options: Omit<ChunkedUpload, 'send' | 'currentOffset'>,
): Promise<void> {
  if (typeof location !== 'string' || location === '')
    throw new GatewayError('platform-protocol-error', 'the tus server returned no Location for a new upload')
  const { signal } = options
  const call = { operation: 'upload', url: http.uploadUrl(location), authorized: false, signal } as const

  async function currentOffset(): Promise<number> {
    const { status, headers } = await http.send({ ...call, method: 'HEAD', headers: version, accept })
    if (gone.includes(status)) throw new VideoMissingError('tus')
    if (busy.includes(status)) throw locked()
    return offsetOf(headers)
  }

  await uploadInChunks(content, {
    ...options,
    currentOffset,
    async send({ bytes, start }) {
      const { status, headers } = await http.send({
        ...call,
        method: 'PATCH',
        headers: {
          ...version,
          'upload-offset': String(start),
          'content-type': 'application/offset+octet-stream',
        },
        body: bytes,
        accept,
      })
      if (gone.includes(status)) throw new VideoMissingError('tus')
      if (status === 409) return currentOffset()
      if (status === 423) throw locked()
      return offsetOf(headers)
    },
  }).catch((error) => {
    if (!(error instanceof VideoMissingError)) throw error
    // The upload expired or was deleted on the platform. The file is fine.
    throw new GatewayError(
      'platform-unavailable',
      'The platform lost the upload session. Upload again from the first byte.',
    )
  })
}

/** Servers lock an upload until they notice that the connection of an interrupted request is closed. */
function locked(): GatewayError {
  return new GatewayError('platform-unavailable', 'the upload is temporarily locked')
}

/** `Upload-Metadata` (extension "Creation"): pairs of a key and its value in Base64. */
function encodeMetadata(metadata: Record<string, string>): string {
  return Object.entries(metadata)
    .map(([key, value]) => `${key} ${Buffer.from(value).toString('base64')}`)
    .join(',')
}

function offsetOf(headers: Headers): number {
  const offset = headers['upload-offset']
  if (typeof offset === 'string' && /^\d+$/.test(offset)) return Number(offset)
  throw new GatewayError('platform-protocol-error', 'the tus server returned no valid Upload-Offset')
}
