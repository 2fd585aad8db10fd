import { imageSize } from 'image-size'
import { GatewayError } from '../../errors.ts'
import type { Thumbnail } from '../platform.ts'
import { fits, Pixels } from './border.ts'
import { isTransient } from './failures.ts'
import type { PlatformHttp } from './http.ts'

/** The size of an image is near its start: only a profile and EXIF precede it. */
const headBytes = 256 * 1024

const mimeTypes: Record<string, Thumbnail['mimeType']> = { jpg: 'image/jpeg', png: 'image/png' }

/**
 * Measures an image by its first bytes, for platforms that link to an image without its size. The same hosts are
 * allowed as for uploads (https on one of the platform's hosts, or its base origin). The request has no token and
 * follows no redirects.
 * @param url absolute, or relative to the platform's base URL
 * @throws `platform-protocol-error` for a foreign host, an image that does not exist (yet), or one that is neither JPEG
 *   nor PNG
 */
export async function measureImage(
  platform: string,
  http: PlatformHttp,
  url: string,
  signal: AbortSignal,
): Promise<Thumbnail> {
  const href = http.uploadUrl(url)
  const { body } = await http
    .send({
      operation: 'thumbnail',
      method: 'GET',
      url: href,
      headers: { range: `bytes=0-${headBytes - 1}` },
      authorized: false,
      signal,
    })
    .catch((error) => {
      // A missing image does not mean that the video is missing.
      if (signal.aborted || isTransient(error)) throw error
      throw new GatewayError(
        'platform-protocol-error',
        `${platform} did not return the thumbnail it links to`,
      )
    })
  const { width, height, type } = measure(platform, body)
  const mimeType = mimeTypes[type ?? '']
  if (!mimeType || !fits(Pixels, width) || !fits(Pixels, height))
    throw new GatewayError(
      'platform-protocol-error',
      `${platform} returned a thumbnail that is not a JPEG or PNG of 1 to 65,535 pixels on each side`,
    )
  return { url: http.publicUrl(href), mimeType, width, height }
}

function measure(platform: string, head: Buffer) {
  try {
    return imageSize(head)
  } catch (cause) {
    throw new GatewayError('platform-protocol-error', `${platform} returned an unreadable thumbnail`, {
      cause,
    })
  }
}
