import { deepEqual, equal } from 'node:assert/strict'
import { Readable } from 'node:stream'
import fc from 'fast-check'
import t from 'tap'
import { GatewayError } from '../../../src/errors.ts'
import {
  type Chunk,
  type ChunkedUpload,
  uploadInChunks,
} from '../../../src/platform/upload/chunked-upload.ts'

const signal = new AbortController().signal
const hold = () => {}
const bytes = fc.uint8Array({ maxLength: 300 })
const pieces = fc.array(fc.nat({ max: 40 }), { maxLength: 20 })
const chunkSize = fc.integer({ min: 1, max: 64 })

t.test('splits any pieces into chunks of one size, with the last one marked', async () => {
  await fc.assert(
    fc.asyncProperty(bytes, pieces, chunkSize, fc.boolean(), async (data, cuts, chunkSize, sized) => {
      const chunks: Chunk[] = []
      const send = async (chunk: Chunk) => {
        chunks.push(chunk)
        return chunk.end
      }
      await uploadInChunks(contentOf(data, cuts, sized), { chunkSize, signal, send })

      deepEqual(Buffer.concat(chunks.map((chunk) => chunk.bytes)), Buffer.from(data))
      equal(chunks.length, Math.ceil(data.length / chunkSize))
      for (const [index, chunk] of chunks.entries()) {
        const last = index === chunks.length - 1
        const end = last ? data.length : (index + 1) * chunkSize
        deepEqual([chunk.start, chunk.end, chunk.last], [index * chunkSize, end, last])
        equal(chunk.bytes.length, chunk.end - chunk.start)
      }
    }),
  )
})

t.test('after a failure at any offset, every byte arrives once and in order', async () => {
  // Each fault: how much of the next attempt arrives, and whether the answer is lost or tells the truth.
  const faults = fc.array(fc.record({ taken: fc.nat({ max: 70 }), lost: fc.boolean() }), { maxLength: 30 })
  await fc.assert(
    fc.asyncProperty(bytes, pieces, chunkSize, faults, async (data, cuts, chunkSize, faults) => {
      const arrived: number[] = []
      await uploadInChunks(contentOf(data, cuts, true), {
        chunkSize,
        signal,
        attempts: 40,
        firstDelay: 0,
        async send({ bytes, start, end, last }) {
          equal(start, arrived.length)
          equal(bytes.length, end - start)
          equal(last, end === data.length)
          if (!last) equal(bytes.length, chunkSize)
          const fault = faults.shift() ?? { taken: bytes.length, lost: false }
          arrived.push(...bytes.subarray(0, fault.taken))
          if (fault.lost) throw new GatewayError('platform-unavailable')
          return arrived.length
        },
        currentOffset: async () => arrived.length,
      })
      deepEqual(Buffer.from(arrived), Buffer.from(data))
    }),
    { numRuns: 60 },
  )
})

t.test('sends a whole chunk again if the platform cannot report its offset', async (t) => {
  const starts: number[] = []
  const send = async ({ start, end }: Chunk) => {
    starts.push(start)
    if (starts.length === 2) throw new GatewayError('platform-throttled')
    return starts.length === 3 ? end - 1 : end
  }
  await uploadInChunks(contentOf(Buffer.alloc(8), [8], true), { chunkSize: 4, signal, firstDelay: 1, send })
  t.strictSame(starts, [0, 4, 4, 7])
})

t.test(
  'fails with the last error after the maximum number of attempts, and destroys the stream',
  async (t) => {
    let sent = 0
    const failure = new GatewayError('platform-unavailable')
    const content = contentOf(Buffer.alloc(8), [4, 4], true)
    const upload = failing(() => {
      sent += 1
      return failure
    })
    await t.rejects(uploadInChunks(content, { ...upload, attempts: 3 }), failure)
    t.equal(sent, 3)
    t.ok(content.stream.destroyed)
  },
)

t.test('does not retry permanent errors, and does not wait longer than the maximum', async (t) => {
  const refusals = [
    new GatewayError('platform-rejected'),
    new GatewayError('platform-unauthorized'),
    new GatewayError('platform-throttled', undefined, { retryAfter: 31 }),
  ]
  for (const refusal of refusals) {
    let sent = 0
    const upload = failing(() => {
      sent += 1
      return refusal
    })
    await t.rejects(uploadInChunks(contentOf(Buffer.alloc(4), [4], true), upload), refusal)
    t.equal(sent, 1)
  }
})

t.test('waits as long as the platform asks for', async (t) => {
  const times: number[] = []
  const send = async ({ end }: Chunk) => {
    times.push(performance.now())
    if (times.length === 1) throw new GatewayError('platform-throttled', undefined, { retryAfter: 1 })
    return end
  }
  await uploadInChunks(contentOf(Buffer.alloc(4), [4], true), { chunkSize: 4, signal, firstDelay: 1, send })
  t.ok(times[1]! - times[0]! >= 990)
})

t.test('an offset outside the chunk is a protocol error', async (t) => {
  const upload = failing(() => new GatewayError('platform-timeout'))
  for (const offset of [-1, 5, Number.NaN]) {
    const content = () => contentOf(Buffer.alloc(8), [8], true)
    const asked = { ...upload, currentOffset: async () => offset }
    await t.rejects(uploadInChunks(content(), asked), { code: 'platform-protocol-error' }, `asked: ${offset}`)
    const told = { ...upload, send: async () => offset }
    await t.rejects(uploadInChunks(content(), told), { code: 'platform-protocol-error' }, `told: ${offset}`)
  }
})

t.test('an offset before the chunk is a protocol error, because those bytes are gone', async (t) => {
  const send = async ({ start, end }: Chunk) => {
    if (start === 4) throw new GatewayError('platform-timeout')
    return end
  }
  const upload = { chunkSize: 4, signal, firstDelay: 1, send, currentOffset: async () => 3 }
  await t.rejects(uploadInChunks(contentOf(Buffer.alloc(8), [8], true), upload), {
    code: 'platform-protocol-error',
  })
})

t.test('an abort ends the wait between two attempts', async (t) => {
  const controller = new AbortController()
  const content = contentOf(Buffer.alloc(4), [4], true)
  const upload = failing(() => {
    setTimeout(() => controller.abort(new GatewayError('video-deleted')), 10)
    return new GatewayError('platform-throttled', undefined, { retryAfter: 20 })
  })
  const started = performance.now()
  const promise = uploadInChunks(content, { ...upload, signal: controller.signal })
  await t.rejects(promise, { code: 'video-deleted' })
  t.ok(performance.now() - started < 2_000)
  t.ok(content.stream.destroyed)
})

t.test('an abort ends the wait for the source', async (t) => {
  const controller = new AbortController()
  const stream = new Readable({ read() {} })
  stream.push(Buffer.alloc(6))
  const reason = new GatewayError('shutting-down')
  setTimeout(() => controller.abort(reason), 10)
  const send = async ({ end }: Chunk) => end
  const upload = { chunkSize: 4, signal: controller.signal, send }
  await t.rejects(uploadInChunks({ stream, size: null, hold }, upload), reason)
  t.ok(stream.destroyed)
})

t.test('content shorter than announced is never sent as complete', async (t) => {
  for (const size of [7, 9]) {
    const chunks: Chunk[] = []
    const send = async (chunk: Chunk) => {
      chunks.push(chunk)
      return chunk.end
    }
    const content = { stream: Readable.from([Buffer.alloc(4), Buffer.alloc(4)]), size, hold }
    await t.rejects(uploadInChunks(content, { chunkSize: 4, signal, send }), { code: 'incomplete-upload' })
    t.notOk(chunks.some((chunk) => chunk.last))
  }
})

t.test('a source that breaks fails the upload with its own error', async (t) => {
  const broken = new GatewayError('incomplete-upload', 'cut')
  const stream = Readable.from(
    (async function* () {
      yield Buffer.alloc(4)
      throw broken
    })(),
  )
  const send = async ({ end }: Chunk) => end
  await t.rejects(uploadInChunks({ stream, size: null, hold }, { chunkSize: 4, signal, send }), broken)
})

t.test('reads no more than one piece beyond the chunk that is being sent', async (t) => {
  let read = 0
  const source = function* () {
    for (; read < 40; read += 1) yield Buffer.alloc(4)
  }
  const stream = Readable.from(source(), { highWaterMark: 0 })
  const send = async ({ end }: Chunk) => {
    await new Promise((resolve) => setTimeout(resolve, 2))
    // One that the chunk's end was found by, and one that the stream machinery may hold.
    t.ok(read * 4 <= end + 8, `${read * 4} read when ${end} were due`)
    return end
  }
  await uploadInChunks({ stream, size: null, hold }, { chunkSize: 16, signal, send })
  t.equal(read, 40)
})

/** The data in pieces of the given lengths; what is left over comes as one more. */
function contentOf(data: Uint8Array, cuts: number[], sized: boolean) {
  const buffer = Buffer.from(data)
  const parts: Buffer[] = []
  let at = 0
  for (const cut of [...cuts, buffer.length]) {
    parts.push(buffer.subarray(at, at + cut))
    at = Math.min(buffer.length, at + cut)
  }
  return { stream: Readable.from(parts), size: sized ? buffer.length : null, hold }
}

function failing(failure: () => Error): ChunkedUpload {
  return {
    chunkSize: 4,
    signal,
    firstDelay: 1,
    send: () => Promise.reject(failure()),
    currentOffset: async () => 0,
  }
}
