import { once } from 'node:events'
import { PassThrough, Readable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import t from 'tap'
import type { GatewayError } from '../../src/errors.ts'
import { type ContentOptions, openContent } from '../../src/publication/content.ts'

const head = Buffer.from('\0\0\0\x18ftypisom', 'latin1')
const { signal } = new AbortController()
const options: ContentOptions = { size: null, maxBytes: 1e9, idleTimeout: 5000, signal }

function mp4(length: number): Buffer {
  return Buffer.concat([head, Buffer.alloc(Math.max(0, length - head.length), 7)]).subarray(0, length)
}

/** A source that gives these pieces, one at a time. */
function source(...pieces: Buffer[]): Readable {
  return Readable.from(pieces, { objectMode: false })
}

async function read(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

async function failure(promise: Promise<unknown>): Promise<string | undefined> {
  return promise.then(
    () => undefined,
    (error: GatewayError) => error.code ?? String(error),
  )
}

t.test(
  'a platform that stops reading in the last piece, after the client has sent everything, is a timeout',
  async (t) => {
    for (const size of [null, 3000]) {
      const content = await openContent(source(mp4(1000), mp4(2000)), { ...options, size, idleTimeout: 100 })
      // It takes the first piece, and nothing more.
      content.stream.once('data', () => content.stream.pause())
      await once(content.signal, 'abort')
      t.equal((content.signal.reason as GatewayError).code, 'platform-timeout', `size ${size}`)
    }
    const held = await openContent(source(mp4(1000)), { ...options, idleTimeout: 100 })
    held.hold()
    await sleep(300)
    t.equal((await read(held.stream)).length, 1000, 'no timeout while it is on hold')
    await sleep(300)
    t.notOk(held.signal.aborted, 'and after the end the wait is no longer for bytes')
  },
)

t.test('bytes pass unchanged in pieces of any size', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 12 }),
      fc.boolean(),
      async (cuts, sized) => {
        const total = Math.max(
          head.length,
          cuts.reduce((sum, cut) => sum + cut, 0),
        )
        const file = mp4(total)
        const pieces: Buffer[] = []
        for (let at = 0, index = 0; at < total; index++) {
          const end = index < cuts.length - 1 ? Math.min(total, at + (cuts[index] as number)) : total
          pieces.push(file.subarray(at, end))
          at = end
        }
        const content = await openContent(source(...pieces), { ...options, size: sized ? total : null })
        const out = await read(content.stream)
        return out.equals(file) && content.received() === total && content.complete()
      },
    ),
    { numRuns: 200 },
  )
  t.pass()
})

t.test('a file that is not an MP4 is rejected before a byte is passed on', async (t) => {
  const open = (...pieces: Buffer[]) => failure(openContent(source(...pieces), options))
  t.equal(await open(Buffer.from('%PDF-1.7 not a video')), 'unsupported-media-type')
  t.equal(await open(Buffer.from('\0\0\0\x18ft'), Buffer.from('xxisom')), 'unsupported-media-type')
  t.equal(await open(Buffer.from('ab')), 'unsupported-media-type')
  t.equal(await open(), 'incomplete-upload', 'empty')
  t.equal(
    await failure(openContent(source(), { ...options, size: 0 })),
    'incomplete-upload',
    'empty by its length',
  )
  t.equal(await open(head.subarray(0, 3), head.subarray(3)), undefined, 'a head in pieces is fine')
})

t.test(
  'a length that does not match fails, and the platform never gets the announced number of bytes',
  async (t) => {
    for (const [announced, real] of [
      [1000, 999],
      [1000, 1001],
      [1000, 1002],
      [1000, 5000],
    ] as const) {
      for (const step of [1, 100, 1000, 5000]) {
        const file = mp4(real)
        const pieces: Buffer[] = []
        for (let at = 0; at < real; at += step) pieces.push(file.subarray(at, Math.min(real, at + step)))
        let passed = 0
        const outcome = await failure(
          openContent(source(...pieces), { ...options, size: announced }).then(async ({ stream }) => {
            stream.on('data', (chunk: Buffer) => {
              passed += chunk.length
            })
            await finished(stream)
          }),
        )
        t.equal(outcome, 'incomplete-upload')
        t.ok(passed < announced, `${real} for ${announced} in steps of ${step}: ${passed} passed`)
      }
    }
  },
)

t.test('a file that is too large is rejected by its length, or when the limit is reached', async (t) => {
  t.equal(
    await failure(openContent(source(mp4(100)), { ...options, size: 100, maxBytes: 99 })),
    'content-too-large',
  )
  const content = await openContent(source(mp4(60), mp4(60)), { ...options, maxBytes: 99 })
  t.equal(await failure(read(content.stream)), 'content-too-large')
})

t.test('a client that stops sending causes upload-timeout', async (t) => {
  const slow = new PassThrough()
  slow.write(mp4(100))
  const content = await openContent(slow, { ...options, idleTimeout: 50 })
  t.equal(await failure(read(content.stream)), 'upload-timeout')
  const silent = new PassThrough()
  t.equal(
    await failure(openContent(silent, { ...options, idleTimeout: 50 })),
    'upload-timeout',
    'from the start',
  )
})

t.test('a platform that stops reading causes platform-timeout', async (t) => {
  const fast = Readable.from(
    (function* () {
      yield mp4(100)
      for (;;) yield Buffer.alloc(65_536)
    })(),
  )
  const content = await openContent(fast, { ...options, idleTimeout: 50 })
  content.stream.once('data', () => content.stream.pause())
  await once(content.signal, 'abort')
  t.equal((content.signal.reason as GatewayError).code, 'platform-timeout')
  t.ok(content.received() < 1_000_000, 'nothing is read ahead')
})

t.test('a client that disconnects fails the upload', async (t) => {
  const cut = new PassThrough()
  cut.write(mp4(100))
  const content = await openContent(cut, options)
  setImmediate(() => cut.destroy(new Error('aborted')))
  t.equal(await failure(read(content.stream)), 'incomplete-upload')
})

t.test('when the platform side ends, the source only stops', async (t) => {
  const body = new PassThrough()
  body.write(mp4(100))
  const content = await openContent(body, options)
  content.stream.destroy(new Error('platform reset'))
  await sleep(10)
  t.notOk(body.destroyed)
  t.notOk(content.signal.aborted, 'it is not the caller’s failure')
  body.destroy(new Error('later'))
  await sleep(10)
})
