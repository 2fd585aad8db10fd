import type { Video } from './video.ts'

/** Returns what the API shows of the metadata. */
export function shownMetadata({ info, thumbnail }: Pick<Video, 'info' | 'thumbnail'>) {
  const shown = <T extends { validUntil?: number }>(metadata: T | null) => {
    if (!metadata) return null
    const { validUntil: _, ...others } = metadata
    return others
  }
  return { info: shown(info), thumbnail: shown(thumbnail) }
}
