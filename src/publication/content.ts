import { Readable } from 'node:stream'
import { GatewayError } from '../errors.ts'
import type { Content } from '../platform/platform.ts'
import { countStreamedBytes } from './buffer-collector.ts'
import { createIdleTimer } from './idle-timer.ts'
import { createMeter, incomplete, type Meter, type MeterOptions } from './meter.ts'

/** Bytes that have to be there before a file can be judged: the first box's size and its type. */
const headBytes = 8
/** After so many bytes an upload lets the others, and every other request, have their turn. */
const turnBytes = 1024 * 1024

export interface ContentOptions extends MeterOptions {
  /** See {@link Content}. */
  maxSize?: number | undefined
  /** How long no byte may flow, in ms. */
  idleTimeout: number
  /** Ends the upload from outside, with its reason. */
  signal: AbortSignal
}

/** The content of an upload under way. It is complete once every byte and the end went on to the platform's side. */
export interface IncomingContent extends Content, Pick<Meter, 'received' | 'complete' | 'digest'> {
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
  const meter = createMeter(options)
  const failed = new AbortController()
  const idle = createIdleTimer(options.idleTimeout, fail)
  /** The platform asked for more than it got. */
  let readRequested = false
  const turns = takeTurns(source, () => readRequested && !stream.destroyed)

  const stream = new Readable({
    highWaterMark: 0,
    read() {
      if (meter.complete()) return
      readRequested = true
      idle.waitFor('caller')
      turns.go()
    },
    destroy(error, done) {
      idle.stop()
      options.signal.removeEventListener('abort', onAbort)
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
  options.signal.addEventListener('abort', onAbort)
  if (options.signal.aborted) onAbort()
  else if (source.destroyed) onBroken(source.errored ?? undefined)

  try {
    await checkFileType(source, failed.signal)
  } catch (error) {
    fail(error as GatewayError)
    throw error
  }
  idle.hold()
  source.on('data', onData).once('end', onEnd)
  const { received, complete, digest } = meter
  return {
    stream,
    size: options.size,
    maxSize: options.maxSize,
    hold: idle.hold,
    received,
    complete,
    digest,
    fail,
    signal: failed.signal,
  }

  function onData(chunk: Buffer) {
    countStreamedBytes(chunk.length)
    attempt(() => {
      const passing = meter.take(chunk)
      if (passing) readRequested = stream.push(passing)
      idle.waitFor(readRequested ? 'caller' : 'platform')
      if (!readRequested) source.pause()
      turns.count(chunk.length)
    })
  }

  function onEnd() {
    attempt(() => {
      const last = meter.end()
      idle.expectPlatform()
      if (last) stream.push(last)
      stream.push(null)
    })
  }

  function onBroken(error?: Error) {
    if (source.readableEnded) return
    fail(
      error instanceof GatewayError
        ? error
        : incomplete('The connection ended before the whole body arrived. Upload again.', error),
    )
  }

  function onAbort() {
    fail(options.signal.reason)
  }

  function attempt(work: () => void) {
    try {
      work()
    } catch (error) {
      fail(error as GatewayError)
    }
  }

  function fail(error: GatewayError) {
    if (failed.signal.aborted) return
    failed.abort(error)
    stream.destroy(error)
  }
}

/**
 * Pauses the source when much has come of it in one turn of the event loop. A fast caller's socket is read many times in
 * a row, and so is the next one's: with 16 of them a small request waits for tens of megabytes to pass.
 */
function takeTurns(source: Readable, isWanted: () => boolean) {
  let bytes = 0
  let yielding = false
  return {
    go() {
      if (!yielding) source.resume()
    },
    count(length: number) {
      bytes += length
      if (bytes <= turnBytes) return
      bytes = 0
      yielding = true
      source.pause()
      setImmediate(() => {
        yielding = false
        if (isWanted()) source.resume()
      })
    },
  }
}

/**
 * Waits for the first bytes of the source, and puts them back. An mp4 starts with an `ftyp` box (ISO/IEC 14496-12 §4.3).
 * @throws GatewayError when it does not, or the reason of the signal
 */
async function checkFileType(source: Readable, signal: AbortSignal): Promise<void> {
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
  const onEnd = () =>
    reject(head.length === 0 ? incomplete('The file is empty.') : notMp4('it is shorter than 8 bytes'))
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

function notMp4(reason: string): GatewayError {
  return new GatewayError('unsupported-media-type', `The file is not an MP4: ${reason}.`)
}
