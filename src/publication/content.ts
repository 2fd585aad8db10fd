import { Readable } from 'node:stream'
import { GatewayError } from '../errors.ts'
import type { Content } from '../platform/platform.ts'

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
  /** Called at the end of the bytes, before the platform hears of it; a rejection fails the upload. */
  confirmEnd?: () => Promise<void>
}

/** The content of an upload under way. */
export interface IncomingContent extends Content {
  /** Bytes seen so far. */
  received(): number
  /** True once every byte and the end went on to the platform. */
  complete(): boolean
  /** Fails the upload: the platform's side is cut, the caller's side only stops. */
  fail(error: GatewayError): void
  /** Aborted, with the GatewayError as its reason, when the upload failed on the caller's side. */
  signal: AbortSignal
}

/**
 * Puts a guard between the caller's body and the platform: counts, checks the first bytes (an mp4 starts with an
 * `ftyp` box, ISO/IEC 14496-12 §4.3), the length, the limit, and that bytes keep flowing. Resolves once the first
 * bytes are seen. Backpressure passes through: nothing is read that the platform did not ask for. When the
 * platform's side destroys the stream, the source only stops: its owner can still answer on its socket.
 * @throws GatewayError of the contract's upload errors; later failures destroy the stream and abort `signal`
 */
export async function openContent(source: Readable, options: ContentOptions): Promise<IncomingContent> {
  const { size, maxBytes, idleTimeout } = options
  if (size !== null && size > maxBytes) throw tooLarge(maxBytes)
  if (size === 0) throw new GatewayError('incomplete-upload', 'the file is empty')

  const controller = new AbortController()
  const opened = Promise.withResolvers<void>()
  let received = 0
  let complete = false
  let judged = false
  let waitingForCaller = true
  /** Bytes forwarded in this turn of the event loop. */
  let forwarded = 0
  let resting = false
  /** The first chunks, until somebody reads. */
  const head: Buffer[] = []
  /** The chunk that fills the announced size: kept back until the end proves that nothing follows. */
  let last: Buffer | undefined

  const idle = setTimeout(() => {
    const seconds = idleTimeout / 1000
    if (waitingForCaller) fail(new GatewayError('upload-timeout', `no byte arrived for ${seconds} s`))
    else fail(new GatewayError('platform-timeout', `the platform took no byte for ${seconds} s`))
  }, idleTimeout)

  const stream = new Readable({
    highWaterMark: 0,
    read() {
      waitingForCaller = true
      idle.refresh()
      flushHead()
      if (waitingForCaller && !resting) source.resume()
    },
    destroy(error, done) {
      clearTimeout(idle)
      source.off('data', onData).off('end', onEnd).off('close', onBroken).off('error', onBroken)
      source.on('error', () => {})
      source.pause()
      done(error)
    },
  })
  // Whoever reads hears of the failure too; before that nobody does.
  stream.on('error', () => {})
  source.on('data', onData).once('end', onEnd).once('close', onBroken).once('error', onBroken)
  if (source.destroyed) onBroken()

  function onData(chunk: Buffer) {
    idle.refresh()
    received += chunk.length
    if (received > maxBytes) return fail(tooLarge(maxBytes))
    if (size !== null && received > size)
      return fail(incomplete(`the file is longer than the announced ${size} bytes`))
    if (judged && head.length === 0) return forward(chunk)
    head.push(chunk)
    source.pause()
    if (judged) return
    if (received < headBytes) return void source.resume()
    if (!startsWithFtyp(head))
      return fail(
        new GatewayError('unsupported-media-type', 'the file is no mp4: it does not start with an ftyp box'),
      )
    judged = true
    opened.resolve()
  }

  function flushHead() {
    for (let chunk = head.shift(); chunk; chunk = head.shift()) forward(chunk)
  }

  function forward(chunk: Buffer) {
    if (received === size && head.length === 0) last = chunk
    else if (!stream.push(chunk)) {
      waitingForCaller = false
      source.pause()
    }
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
      if (waitingForCaller && !stream.destroyed) source.resume()
    })
  }

  async function onEnd() {
    if (received === 0) return fail(incomplete('the file is empty'))
    if (!judged) return fail(new GatewayError('unsupported-media-type', 'the file is too short for an mp4'))
    try {
      await options.confirmEnd?.()
    } catch (error) {
      return fail(error instanceof GatewayError ? error : incomplete('the body is not complete', error))
    }
    if (size !== null && received < size)
      return fail(incomplete(`the file ended after ${received} of the announced ${size} bytes`))
    clearTimeout(idle)
    complete = true
    // A short source ends before anybody has read the head.
    flushHead()
    if (last) stream.push(last)
    stream.push(null)
  }

  function onBroken(error?: Error) {
    if (source.readableEnded) return
    fail(error instanceof GatewayError ? error : incomplete('the body was cut short', error))
  }

  function fail(error: GatewayError) {
    if (controller.signal.aborted) return
    controller.abort(error)
    opened.reject(error)
    stream.destroy(error)
  }

  await opened.promise
  return { stream, size, received: () => received, complete: () => complete, fail, signal: controller.signal }
}

function startsWithFtyp(head: Buffer[]): boolean {
  return Buffer.concat(head).toString('latin1', 4, headBytes) === 'ftyp'
}

function tooLarge(maxBytes: number): GatewayError {
  return new GatewayError('content-too-large', `the limit is ${maxBytes} bytes`)
}

function incomplete(detail: string, cause?: unknown): GatewayError {
  return new GatewayError('incomplete-upload', detail, { cause })
}
