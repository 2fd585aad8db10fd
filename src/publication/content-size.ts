import { GatewayError } from '../errors.ts'
import type { VideoPlatform } from '../platform/platform.ts'
import type { ContentOptions } from './content.ts'

/** What is known about the size of content before its first byte, in bytes. */
export interface IncomingSize {
  /** The length that the client announced; null when it did not. */
  size: number | null
  /**
   * Returns the lengths that are possible when none was announced, by what the bytes around the content show: the most
   * likely one first, exactly one when it is certain, none when nothing shows it. Even a certain one may prove wrong, so
   * it is used only where the platform requires a length.
   */
  possibleSizes?: () => Promise<number[]>
}

/** Advice for a client whose form does not show the size of its file. */
const announceSize =
  'Send the length of the file in bytes in a field `size` before the part `file`, or send the file alone with PUT and Content-Length.'

/**
 * Decides on the size that an upload to a platform goes by: the announced one, or what the platform requires beyond. Of
 * several possible lengths it takes their upper bound where that is enough for the platform, else the most likely one.
 * @throws GatewayError `length-required`
 */
export async function sizeFor(
  platform: VideoPlatform,
  { size, possibleSizes }: IncomingSize,
): Promise<Pick<ContentOptions, 'size' | 'maxSize' | 'minSize' | 'onSizeMismatch'>> {
  const { name } = platform
  if (size !== null || !platform.lengthRequired) return { size }
  const possible = (await possibleSizes?.()) ?? []
  const [likely] = possible
  if (likely === undefined) {
    const advice = possibleSizes ? announceSize : 'Send Content-Length.'
    throw new GatewayError('length-required', `${name} requires the length of the file. ${advice}`)
  }
  const maxSize = Math.max(...possible)
  if (possible.length > 1 && platform.acceptsMaxSize?.(maxSize))
    return { size: null, maxSize, minSize: Math.min(...possible) }
  return {
    size: likely,
    onSizeMismatch: () =>
      new GatewayError(
        'length-required',
        `${name} requires the length of the file, and it cannot be computed from this form. ${announceSize}`,
      ),
  }
}
