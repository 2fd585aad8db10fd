/** All of PeerTube's `VideoState` (package `@peertube/peertube-types`, 8.1); its API document of 6.3 ends at 9. */
export const statesById: Record<number, 'ready' | 'processing' | 'failed'> = {
  1: 'ready',
  2: 'processing', // to transcode
  3: 'processing', // to import
  4: 'processing', // waiting for a live stream; no upload is one
  5: 'processing', // live stream ended; neither
  6: 'processing', // to move to external storage
  7: 'failed', // transcoding
  8: 'failed', // move to external storage
  9: 'processing', // to edit
  10: 'processing', // to move to the file system
  11: 'failed', // move to the file system
  12: 'failed', // import
}
