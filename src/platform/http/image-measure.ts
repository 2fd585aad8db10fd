import { imageSize } from 'image-size'
import { GatewayError } from '../../errors.ts'
import type { Thumbnail } from '../platform.ts'
import { fits, Pixels } from './border.ts'
import { isTransient } from './failures.ts'
import type { PlatformHttp } from './http.ts'

/** The size of an image stands near its start: in front of it there is little more than a profile and EXIF. */
const headBytes = 256 * 1024

const mimeTypes: Record<string, Thumbnail['mimeType']> = { jpg: 'image/jpeg', png: 'image/png' }

/**
 * Measures an image that a platform links to and does not state the size of, from its first bytes. It is asked for
 * where uploads may go too (https on one of the platform's hosts, or its base origin), without our token, and
 * redirects are not followed.
 * @param url absolute, or relative to the platform's base URL
 * @throws `platform-protocol-error` for a foreign host, an image that is not there (yet), and what is no JPEG or PNG
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
      // That the image is missing does not say that the video is.
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
