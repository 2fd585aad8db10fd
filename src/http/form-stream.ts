import { Transform, type TransformCallback } from 'node:stream'
import { GatewayError } from '../errors.ts'
import { invalidField, type PartHeaders, parsePartHeaders } from './part.ts'

/** Maximum size of everything before the file: preamble, part headers and fields. Bytes. */
const maxHeadBytes = 256 * 1024
const maxPartHeaderBytes = 16 * 1024
/** Maximum padding after a delimiter. Bytes. */
const maxEndBytes = 256

const lineBreak = Buffer.from('\r\n')
const emptyLine = Buffer.from('\r\n\r\n')

export interface FormHandlers {
  /** Called with the headers of a part that is not the file. An error ends the form before the rest of the part arrives. */
  part(headers: PartHeaders): void
  /** Called with a complete field. An error ends the form. */
  field(headers: PartHeaders, value: Buffer): void
  /** Called when the file begins, whose bytes the stream supplies. An error ends the form. @param start offset in the body */
  file(headers: PartHeaders, start: number): void
}

/**
 * Splits a form (RFC 2046 §5.1.1, RFC 7578) into its small fields and the one file after them, whose bytes this stream
 * supplies:
 *
 *     preamble CRLF --boundary CRLF headers CRLF CRLF field CRLF --boundary CRLF headers CRLF CRLF file CRLF --boundary--
 *
 * Every byte is accounted for: no part is skipped, and only the closing delimiter, its padding and at most two CRLF may
 * follow the file. The stream ends only when the body has ended in this way.
 */
export class FormStream extends Transform {
  /** Ends a part: CRLF, two dashes and the boundary. RFC 2046 §5.1.1: the CRLF belongs to the delimiter, not to the part. */
  readonly delimiter: Buffer
  readonly #handlers: FormHandlers
  #state: 'head' | 'file' | 'end' = 'head'
  /** Bytes that are not parsed yet. The first CRLF is not part of the body: with it, every delimiter begins with one. */
  #rest: Buffer = lineBreak
  /** Bytes of the body before `#rest`. */
  #offset = -lineBreak.length
  #inPart = false
  #begun = false
  #complete = false
  #held: { chunks: Buffer[]; length: number; wanted: number; done(): void } | undefined

  constructor(boundary: string, handlers: FormHandlers) {
    super()
    this.delimiter = Buffer.from(`\r\n--${boundary}`, 'latin1')
    this.#handlers = handlers
    // A reader of the file gets the error anyway; without a reader it would be unhandled.
    this.on('error', () => {})
  }

  /**
   * Returns the first bytes of the file without consuming them.
   * @returns about `bytes` bytes, or fewer if they did not arrive in time; and whether they are the whole file
   */
  async peek(bytes: number, milliseconds: number): Promise<{ head: Buffer; whole: boolean }> {
    const { promise, resolve: done } = Promise.withResolvers<void>()
    if (!this.#complete) this.#held = { chunks: [], length: 0, wanted: bytes, done }
    // Reads what is buffered, so that waiting data can follow: it is held from now on.
    const { head } = this.#look()
    if (this.#complete || this.destroyed || head.length >= bytes) done()
    const timer = setTimeout(done, milliseconds)
    this.once('close', done)
    await promise
    clearTimeout(timer)
    this.off('close', done)
    this.#release()
    return this.#look()
  }

  /** Returns the buffered bytes, and whether they are the whole file. */
  #look(): { head: Buffer; whole: boolean } {
    const chunks: Buffer[] = []
    // Never read when empty: that would end the stream.
    while (this.readableLength > 0) chunks.push(this.read())
    const head = Buffer.concat(chunks)
    if (head.length > 0) this.unshift(head)
    return { head, whole: this.#complete }
  }

  override _transform(chunk: Buffer, _encoding: string, done: TransformCallback): void {
    try {
      this.#begun = true
      this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
      if (this.#state === 'head') while (this.#readPart());
      if (this.#state === 'file') this.#readFile()
      if (this.#state === 'end') this.#checkEnd()
      done()
    } catch (error) {
      done(error as Error)
    }
  }

  override _flush(done: TransformCallback): void {
    const problem = this.#problemAtEnd()
    if (!problem) {
      this.#complete = true
      this.#release()
    }
    done(problem)
  }

  /** Reads the next delimiter or part before the file. @returns whether there may be more to read */
  #readPart(): boolean {
    if (this.#rest.length > maxHeadBytes)
      throw new GatewayError(
        'invalid-request',
        `More than ${maxHeadBytes} bytes of the form come before the part \`file\`. Send fewer or shorter fields.`,
      )
    return this.#inPart ? this.#readHeadersAndValue() : this.#readDelimiter()
  }

  /** Skips a preamble, up to the CRLF that ends the first delimiter's line. RFC 2046 §5.1.1: preambles are to be ignored. */
  #readDelimiter(): boolean {
    const at = this.#rest.indexOf(this.delimiter)
    if (at < 0) return false
    const end = this.#endOfDelimiter(at)
    if (end === undefined) return false
    this.#skip(end)
    this.#inPart = true
    return true
  }

  /**
   * Returns where the CRLF after a delimiter begins; undefined if it has not arrived yet. Between them there
   * may be spaces and tabs, which receivers "MUST be able to handle" (RFC 2046 §5.1.1).
   */
  #endOfDelimiter(at: number): number | undefined {
    const start = at + this.delimiter.length
    const line = this.#rest.toString('latin1', start, start + maxEndBytes)
    const padding = /^[ \t]*/.exec(line)?.[0].length ?? 0
    if (line.startsWith('\r\n', padding)) return start + padding
    if (line.startsWith('--')) throw invalidField('file', 'is missing; send the video as the last part')
    if (line.length < maxEndBytes && /^[ \t]*\r?$|^-$/.test(line)) return undefined
    throw malformedDelimiter(line.startsWith('\n', padding))
  }

  #readHeadersAndValue(): boolean {
    const end = this.#rest.indexOf(emptyLine)
    if (end > maxPartHeaderBytes || (end < 0 && this.#rest.length > maxPartHeaderBytes))
      throw new GatewayError('invalid-request', 'The headers of a part of the form are too long.')
    if (end < 0) return false
    const headers = parsePartHeaders(this.#rest.toString('latin1', lineBreak.length, end))
    const start = end + emptyLine.length
    // The part needs no filename (RFC 7578 §4.2: a name of the file "SHOULD" be supplied).
    if (headers.name === 'file') {
      this.#skip(start)
      this.#state = 'file'
      this.#handlers.file(headers, this.#offset)
      return false
    }
    this.#handlers.part(headers)
    const next = this.#rest.indexOf(this.delimiter, start)
    if (next < 0) return false
    this.#handlers.field(headers, this.#rest.subarray(start, next))
    this.#skip(next)
    this.#inPart = false
    return true
  }

  #readFile(): void {
    const data = this.#rest
    const end = data.indexOf(this.delimiter)
    const passed = end < 0 ? data.length - this.#beginOfDelimiter(data) : end
    if (passed > 0) this.#give(data.subarray(0, passed))
    this.#rest = data.subarray(end < 0 ? passed : end + this.delimiter.length)
    if (end >= 0) this.#state = 'end'
  }

  /** Returns the number of last bytes that may be the beginning of a delimiter. */
  #beginOfDelimiter(data: Buffer): number {
    for (let at = Math.max(0, data.length - this.delimiter.length + 1); ; at++) {
      at = data.indexOf(0x0d, at)
      if (at < 0) return 0
      if (data.compare(this.delimiter, 0, data.length - at, at) === 0) return data.length - at
    }
  }

  #checkEnd(): void {
    const end = this.#rest.toString('latin1', 0, maxEndBytes)
    if (this.#rest.length < maxEndBytes && /^-?$|^--[ \t]*(\r\n){0,2}\r?$|^[ \t]+\r?$|^\r$/.test(end)) return
    if (/^--/.test(end))
      throw new GatewayError(
        'invalid-request',
        'Bytes follow the end of the form. Send nothing after the closing boundary but one CRLF.',
      )
    if (/^[ \t]*\r\n/.test(end))
      throw invalidField('file', 'must be the last part of the form, and the only file')
    throw malformedDelimiter(/^[ \t]*\n/.test(end))
  }

  #problemAtEnd(): GatewayError | undefined {
    if (this.#state === 'end' && /^--[ \t]*(\r\n){0,2}$/.test(this.#rest.toString('latin1'))) return undefined
    if (!this.#begun) return invalidField('file', 'is missing; the body is empty')
    if (this.#state === 'head' && this.#offset < 0 && !this.#rest.includes(this.delimiter)) {
      const named = this.delimiter.toString('latin1', lineBreak.length)
      const text = this.#rest.toString('latin1')
      if (text.includes(`${named}\n`) || text.includes(`\n${named}`)) return malformedDelimiter(true)
      return new GatewayError(
        'incomplete-upload',
        'The boundary that Content-Type names does not begin any line of the body. Let your HTTP library set Content-Type.',
      )
    }
    return new GatewayError('incomplete-upload', 'The form ended before its closing boundary. Send it again.')
  }

  #give(bytes: Buffer): void {
    const held = this.#held
    if (!held) return void this.push(bytes)
    held.chunks.push(bytes)
    held.length += bytes.length
    if (held.length >= held.wanted) held.done()
  }

  #release(): void {
    const held = this.#held
    if (!held) return
    this.#held = undefined
    for (const chunk of held.chunks) if (!this.destroyed) this.push(chunk)
    held.done()
  }

  #skip(bytes: number): void {
    this.#rest = this.#rest.subarray(bytes)
    this.#offset += bytes
  }
}

function malformedDelimiter(byLineFeed: boolean): GatewayError {
  return new GatewayError(
    'invalid-request',
    byLineFeed
      ? 'The lines of the form end with LF. End the boundary lines and headers of a form with CRLF.'
      : 'A boundary line of the form is malformed. The boundary must not occur within a field or the file.',
  )
}
