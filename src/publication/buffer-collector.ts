import v8 from 'node:v8'
import { runInNewContext } from 'node:vm'

/** Number of streamed bytes between two collections. */
const step = 16 * 1024 * 1024

v8.setFlagsFromString('--expose-gc')
const collect: (options: { type: 'minor' }) => void = runInNewContext('gc')
let passed = 0

/**
 * Counts streamed bytes, and from time to time collects the buffers that held them. The buffers are short-lived but
 * outside V8's heap: V8 by itself would let about 100 MiB of them accumulate and then make a full collection, which
 * takes a quarter of an upload's CPU. A minor collection takes about a millisecond (docs/performance.md).
 */
export function countStreamedBytes(count: number): void {
  passed += count
  if (passed < step) return
  passed = 0
  collect({ type: 'minor' })
}
