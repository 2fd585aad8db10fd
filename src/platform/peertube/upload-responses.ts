import { Type } from '@sinclair/typebox'
import { GatewayError } from '../../errors.ts'
import { fits } from '../http/border.ts'
import { parseJson } from '../http/http.ts'
import type { PlatformResponse } from '../http/request.ts'

const Problem = Type.Object({ code: Type.String() })

/** Used in a query, so it may contain more characters than other ids. */
const UploadId = Type.String({ pattern: '^[\\x21-\\x7e]{1,500}$' })

/** PeerTube reports its own limits with a code. A 413 without one is from the proxy, and concerns a single chunk. */
export function tooLarge({ body }: PlatformResponse): GatewayError {
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
    return parseJson('peertube', Problem, body).code
  } catch {
    return ''
  }
}

/** Reads only the id from the Location: the path is known, and the host (`//host/…`) may be one of the proxy. */
export function uploadIdOf(location: PlatformResponse['headers'][string]): string {
  const base = 'http://instance'
  const url =
    typeof location === 'string' && URL.canParse(location, base) ? new URL(location, base) : undefined
  const id = url?.searchParams.get('upload_id')
  if (!fits(UploadId, id))
    throw new GatewayError('platform-protocol-error', 'peertube returned no upload session')
  return id
}

/** Returns the offset after the received bytes: `Range: bytes=0-99` is 100, no Range is 0. */
export function offsetOf({ headers }: PlatformResponse): number {
  const range = headers.range
  if (range === undefined) return 0
  const last = /^bytes=0-(-?\d+)$/.exec(String(range))?.[1]
  if (last === undefined)
    throw new GatewayError('platform-protocol-error', 'peertube returned an invalid Range header')
  return Number(last) + 1
}

/** Whether a 503 is PeerTube's “already being processed”, and not from an instance that is down or its proxy. */
export function isProcessing({ headers }: PlatformResponse): boolean {
  const problem = String(headers['content-type']).startsWith('application/problem+json')
  return problem && headers['retry-after'] === '300'
}

/** Without PeerTube's `Retry-After` of 300 s: reading a complete file usually takes a moment. */
export function uploadBusy(): GatewayError {
  return new GatewayError('platform-unavailable', 'peertube is still processing the upload')
}
