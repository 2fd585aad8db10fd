import v8 from 'node:v8'
import { runInNewContext } from 'node:vm'

/** So many bytes pass between two collections. */
const step = 16 * 1024 * 1024

v8.setFlagsFromString('--expose-gc')
const collect: (options: { type: 'minor' }) => void = runInNewContext('gc')
let passed = 0

/**
 * Tells that bytes went through, and has the buffers that held them collected now and then. They live for a moment, but
 * outside V8's heap, so that V8 itself waits: for some 100 MiB of them, and then for a full collection, a quarter of an
 * upload's CPU. A young one takes about a millisecond (docs/performance.md).
 */
export function countStreamedBytes(count: number): void {
  passed += count
  if (passed < step) return
  passed = 0
  collect({ type: 'minor' })
}
