import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import { GatewayError } from '../errors.ts'
import type { Content } from '../platform/platform.ts'
import { bytesPassed } from './buffer-collector.ts'

/** Bytes that have to be there before a file can be judged: the first box's size and its type. */
const headBytes = 8
/** After so many bytes an upload lets the others, and every other request, have their turn. */
const turnBytes = 1024 * 1024

export interface ContentOptions {
  /** The exact size in bytes if it is known, else null. */
  size: number | null
  maxBytes: number
  /** How long no byte may flow, in ms. */
  idleTimeout: number
  /** Ends the upload from outside, with its reason. */
  signal: AbortSignal
  /** What it means that the bytes are more or fewer than `size`; `incomplete-upload` if not given. */
  wrongSize?: ((detail: string) => GatewayError) | undefined
  /** Whether to tell the bytes' SHA-256 in the end. */
  digested?: boolean | undefined
}

/** The content of an upload under way. */
export interface IncomingContent extends Content {
  /** Bytes seen so far. */
  received(): number
  /** True once every byte and the end went on to the platform's side. */
  complete(): boolean
  /** SHA-256 of all bytes in base64url, once complete; undefined when it was not asked for. */
  digest(): string | undefined
  /** Fails the upload: the platform's side is cut, the caller's side only stops. */
  fail(error: GatewayError): void
  /** Aborted, with the GatewayError as its reason, when the upload failed on the caller's side. */
  signal: AbortSignal
}

/**
 * Puts a guard between the caller's body and the platform: looks at the first bytes, then counts, checks length and
 * limit, and that bytes keep flowing. Resolves once the first bytes are seen. Backpressure passes through: nothing is
 * read that the platform did not ask for. When the platform's side destroys the stream, the source only stops: its
 * owner can still answer on its socket.
 * @throws GatewayError of the contract's upload errors; later failures destroy the stream and abort `signal`
 */
export async function openContent(source: Readable, options: ContentOptions): Promise<IncomingContent> {
  const { size, maxBytes, signal, wrongSize = incomplete } = options
  if (size !== null && size > maxBytes) throw tooLarge(maxBytes)
  if (size === 0) throw incomplete('the file is empty')

  const failed = new AbortController()
  const idle = watchIdle(options.idleTimeout, fail)
  const hash = options.digested ? createHash('sha256') : undefined
  let digest: string | undefined
  let received = 0
  let complete = false
  /** The platform asked for more than it got. */
  let wanted = false
  /** Bytes forwarded in this turn of the event loop. */
  let forwarded = 0
  let resting = false
  /** The chunk that fills the announced size: kept back until the end proves that nothing follows. */
  let last: Buffer | undefined

  const stream = new Readable({
    highWaterMark: 0,
    read() {
      if (complete) return
      wanted = true
      idle.waitFor('caller')
      if (!resting) source.resume()
    },
    destroy(error, done) {
      idle.stop()
      signal.removeEventListener('abort', onAbort)
      source.off('data', onData).off('end', onEnd).off('close', onBroken).off('error', onBroken)
      source.on('error', () => {})
      source.pause()
      done(error)
    },
  })
  // Whoever reads hears of the failure too; before that nobody does.
  stream.on('error', () => {})
  // The last bytes may still wait for the platform. Once they are taken, who sends them watches the wait for the answer.
  stream.once('end', idle.stop)
  source.once('close', onBroken).once('error', onBroken)
  signal.addEventListener('abort', onAbort)
  if (signal.aborted) onAbort()
  else if (source.destroyed) onBroken(source.errored ?? undefined)

  try {
    await judgeHead(source, failed.signal)
  } catch (error) {
    fail(error as GatewayError)
    throw error
  }
  idle.hold()
  source.on('data', onData).once('end', onEnd)
  return {
    stream,
    size,
    hold: idle.hold,
    received: () => received,
    complete: () => complete,
    digest: () => digest,
    fail,
    signal: failed.signal,
  }

  function onData(chunk: Buffer) {
    received += chunk.length
    bytesPassed(chunk.length)
    hash?.update(chunk)
    if (received > maxBytes) return fail(tooLarge(maxBytes))
    if (size !== null && received > size)
      return fail(wrongSize(`the file is longer than the announced ${size} bytes`))
    if (received === size) last = chunk
    else wanted = stream.push(chunk)
    idle.waitFor(wanted ? 'caller' : 'platform')
    if (!wanted) source.pause()
    forwarded += chunk.length
    if (forwarded > turnBytes) rest()
  }

  // A fast caller's socket is read many times in a row, and so is the next one's: with 16 of them a small request
  // waits for tens of megabytes to pass.
  function rest() {
    forwarded = 0
    resting = true
    source.pause()
    setImmediate(() => {
      resting = false
      if (wanted && !stream.destroyed) source.resume()
    })
  }

  function onEnd() {
    if (size !== null && received < size)
      return fail(wrongSize(`the file ended after ${received} of the announced ${size} bytes`))
    complete = true
    idle.expectPlatform()
    digest = hash?.digest('base64url')
    if (last) stream.push(last)
    stream.push(null)
  }

  function onBroken(error?: Error) {
    if (source.readableEnded) return
    fail(error instanceof GatewayError ? error : incomplete('the body was cut short', error))
  }

  function onAbort() {
    fail(signal.reason)
  }

  function fail(error: GatewayError) {
    if (failed.signal.aborted) return
    failed.abort(error)
    stream.destroy(error)
  }
}

/**
 * Waits for the first bytes of the source, and puts them back. An mp4 starts with an `ftyp` box (ISO/IEC 14496-12 §4.3).
 * @throws GatewayError when it does not, or the reason of the signal
 */
async function judgeHead(source: Readable, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  let head = Buffer.alloc(0)
  const onData = (chunk: Buffer) => {
    head = Buffer.concat([head, chunk])
    if (head.length < headBytes) return
    source.pause()
    source.unshift(head)
    if (head.toString('latin1', 4, headBytes) === 'ftyp') resolve()
    else reject(notMp4('it does not start with an ftyp box'))
  }
  const onEnd = () => reject(head.length === 0 ? incomplete('the file is empty') : notMp4('it is too short'))
  const onAbort = () => reject(signal.reason)
  source.on('data', onData).once('end', onEnd)
  signal.addEventListener('abort', onAbort)
  try {
    await promise
  } finally {
    source.off('data', onData).off('end', onEnd)
    signal.removeEventListener('abort', onAbort)
  }
}

/** Fails an upload in which no byte moves, and says whose turn it was. On hold it fails nothing. */
function watchIdle(ms: number, fail: (error: GatewayError) => void) {
  let side: 'caller' | 'platform' | undefined = 'caller'
  const timer = setTimeout(() => {
    const seconds = ms / 1000
    if (side === 'caller') fail(new GatewayError('upload-timeout', `no byte arrived for ${seconds} s`))
    if (side === 'platform')
      fail(new GatewayError('platform-timeout', `the platform took no byte for ${seconds} s`))
  }, ms)
  return {
    waitFor(next: 'caller' | 'platform') {
      side = next
      timer.refresh()
    },
    /** Nothing more comes of the caller: unless the upload is on hold, it is the platform's turn. */
    expectPlatform() {
      if (side === undefined) return
      side = 'platform'
      timer.refresh()
    },
    hold() {
      side = undefined
    },
    stop() {
      clearTimeout(timer)
    },
  }
}

function notMp4(reason: string): GatewayError {
  return new GatewayError('unsupported-media-type', `the file is no mp4: ${reason}`)
}

function tooLarge(maxBytes: number): GatewayError {
  return new GatewayError('content-too-large', `the limit is ${maxBytes} bytes`)
}

function incomplete(detail: string, cause?: unknown): GatewayError {
  return new GatewayError('incomplete-upload', detail, { cause })
}
