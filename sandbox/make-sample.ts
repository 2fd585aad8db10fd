import { stat } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { writeTestPattern } from './test-pattern.ts'

// Writes sample.mp4, the file that people can try the gateway with: `node sandbox/make-sample.ts`.
const path = fileURLToPath(new URL('sample.mp4', import.meta.url))
await writeTestPattern({ path, width: 640, height: 360, seconds: 5, layout: 'faststart' })
console.log(`${path}: ${(await stat(path)).size} bytes`)
