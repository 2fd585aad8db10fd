import { Readable } from 'node:stream'
import { GatewayError } from '../errors.ts'
import type { Content } from '../platform/platform.ts'
import { countStreamedBytes } from './buffer-collector.ts'
import { createIdleTimer } from './idle-timer.ts'
import { createMeter, incomplete, type Meter, type MeterOptions } from './meter.ts'

/** Bytes required to check the file type: size and type of the first box. */
const headBytes = 8
/** Number of bytes after which an upload yields to other uploads and requests. */
const turnBytes = 1024 * 1024

export interface ContentOptions extends MeterOptions {
  /** See {@link Content}. */
  maxSize?: number | undefined
  /** Maximum time without data, in ms. */
  idleTimeout: number
  /** Aborts the upload, with its reason. */
  signal: AbortSignal
}

/** The content of an upload in progress. It is complete once every byte and the end were passed on to the platform. */
export interface IncomingContent extends Content, Pick<Meter, 'received' | 'complete' | 'digest'> {
  /** Fails the upload: aborts the platform's side and only stops reading the client's. */
  fail(error: GatewayError): void
  /** Aborted, with a GatewayError as its reason, when the upload failed on the client's side. */
  signal: AbortSignal
}

/**
 * Checks the client's body on its way to the platform: its first bytes, then size, limit and progress. Resolves once
 * the first bytes have arrived. Backpressure is passed on: the gateway reads only data that the platform requests. When
 * the platform's side destroys the stream, the source only stops, so that its owner can still respond on its socket.
 * @throws GatewayError of the contract's upload errors; later failures destroy the stream and abort `signal`
 */
export async function openContent(source: Readable, options: ContentOptions): Promise<IncomingContent> {
  const meter = createMeter(options)
  const failed = new AbortController()
  const idle = createIdleTimer(options.idleTimeout, fail)
  /** Whether the platform has requested more data than it got. */
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
  // A reader gets the error as well; before there is one, the event would be unhandled.
  stream.on('error', () => {})
  // The last bytes may still wait for the platform. Once it has read them, the adapter limits the wait for a response.
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
 * Pauses the source when it has delivered much data in one turn of the event loop. Node reads the socket of a fast
 * client many times in a row, then the next one's: with 16 of them a small request waits for tens of megabytes.
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
 * Waits for the first bytes of the source, and puts them back. An MP4 starts with an `ftyp` box (ISO/IEC 14496-12
 * §4.3).
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
