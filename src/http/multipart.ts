import type { MultipartFile, MultipartValue } from '@fastify/multipart'
import type { FastifyRequest } from 'fastify'
import { GatewayError } from '../errors.ts'
import type { Incoming } from '../publication/upload.ts'
import { lateRequest, requestDeadline } from './connections.ts'

/** Everything before the file has to fit: part headers and fields. Bytes. */
const maxHeadBytes = 256 * 1024

const limits = {
  fields: 10,
  fieldNameSize: 100,
  fieldSize: 64 * 1024,
  files: 1,
  parts: 11,
  headerPairs: 20,
  fileSize: Number.POSITIVE_INFINITY,
}

/** A browser names the file; other senders need not (RFC 7578 §4.2). */
const isPartAFile = (name: string | undefined) => name === 'file'

/**
 * Reads a form up to its file: the named fields, each at most once, then the part `file` of `video/mp4`, which is
 * the last. The file itself is not read yet; what stands before it has to be there soon. Its size is reckoned from the
 * Content-Length and the framing, assuming that the form ends as most senders end it.
 * @throws GatewayError `invalid-request` or `unsupported-media-type`
 */
export async function readForm(
  request: FastifyRequest,
  names: readonly string[],
): Promise<{ fields: Record<string, string>; incoming: Incoming }> {
  if (!request.isMultipart()) throw new GatewayError('unsupported-media-type', 'send multipart/form-data')
  const head = watchHead(request)
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => late.reject(lateRequest()), requestDeadline).unref()
  const parts = request.parts({ limits, isPartAFile })
  const fields: Record<string, string> = {}
  try {
    for (let count = 0; ; count++) {
      const { value: part, done } = await Promise.race([parts.next(), late.promise])
      if (done || !part) throw invalid('/file', 'the part `file` is missing')
      if (part.type === 'field') {
        addField(fields, part, names)
        continue
      }
      checkFile(part)
      const confirmEnd = () => expectEnd(parts)
      const assuming = 'end the form with one line end after its last boundary, or send the file alone by PUT'
      return { fields, incoming: { source: part.file, size: head.sizeOfFile(count), assuming, confirmEnd } }
    }
  } catch (error) {
    throw formError(error)
  } finally {
    clearTimeout(timer)
    head.stop()
  }
}

function addField(fields: Record<string, string>, part: MultipartValue, names: readonly string[]): void {
  const path = `/${part.fieldname}`
  if (!names.includes(part.fieldname)) throw invalid(path.slice(0, 101), 'is not a field of this form')
  if (part.fieldname in fields) throw invalid(path, 'is there twice')
  if (part.valueTruncated || typeof part.value !== 'string') throw invalid(path, 'is too long or is no text')
  fields[part.fieldname] = part.value
}

function checkFile(part: MultipartFile): void {
  if (part.fieldname !== 'file') throw invalid('/file', 'the file must be in the part `file`')
  if (part.mimetype !== 'video/mp4') {
    throw new GatewayError('unsupported-media-type', 'the part `file` must be of the type video/mp4')
  }
}

/** The file has ended: nothing may follow but the end of the form. */
async function expectEnd(parts: AsyncIterableIterator<MultipartFile | MultipartValue>): Promise<void> {
  const next = await parts.next().catch((error) => {
    throw formError(error)
  })
  if (!next.done) throw invalid('/file', 'the file must be the last part of the form')
}

/**
 * Keeps the first bytes of the body while the form's parser reads them, to see where the file begins. The framing
 * (RFC 2046 §5.1.1), of which the Content-Length counts every byte:
 *
 *     --boundary CRLF headers CRLF CRLF field CRLF --boundary CRLF headers CRLF CRLF file CRLF --boundary-- CRLF
 *
 * The last CRLF may be missing and more may follow, which nobody knows before it is there.
 */
function watchHead(request: FastifyRequest) {
  const boundary = /boundary=(?:"([^"]+)"|([^;\s]+))/i.exec(request.headers['content-type'] ?? '')
  const delimiter = `--${boundary?.[1] ?? boundary?.[2] ?? ''}`
  const total = Number(request.headers['content-length'] ?? Number.NaN)
  let head = Buffer.alloc(0)
  const onData = (chunk: Buffer) => {
    if (head.length < maxHeadBytes) head = Buffer.concat([head, chunk])
  }
  request.raw.prependListener('data', onData)

  return {
    /** @param fields how many parts stand before it @returns bytes, or null when it cannot be told */
    sizeOfFile(fields: number): number | null {
      const start = startOfPart(head, delimiter, fields)
      if (start === undefined || Number.isNaN(total)) return null
      return Math.max(0, total - start - `\r\n${delimiter}--\r\n`.length)
    },
    stop: () => void request.raw.off('data', onData),
  }
}

/** Where the content of the part with this index begins: after its delimiter line and its headers. */
function startOfPart(head: Buffer, delimiter: string, index: number): number | undefined {
  const text = head.toString('latin1')
  const line = new RegExp(`(?:^|\\r\\n)${RegExp.escape(delimiter)}[ \\t]*\\r\\n`, 'g')
  for (let part = 0; part <= index; part++) {
    if (!line.exec(text)) return undefined
    // The line end of one delimiter may be the beginning of the next.
    line.lastIndex -= 2
  }
  const end = text.indexOf('\r\n\r\n', line.lastIndex)
  return end < 0 ? undefined : end + 4
}

function invalid(path: string, message: string): GatewayError {
  return new GatewayError('invalid-request', undefined, { errors: [{ path, message }] })
}

/** What the form's parser says, in our words. */
function formError(error: unknown): unknown {
  if (error instanceof GatewayError) return error
  const { code, message } = error as { code?: string; message: string }
  if (code === 'FST_MP_PREMATURE_CLOSE' || /unexpected end|terminated early/i.test(message)) {
    return new GatewayError('incomplete-upload', 'the form was cut short', { cause: error })
  }
  if (code === 'FST_FILES_LIMIT') return invalid('/file', 'there must be one file')
  return new GatewayError(
    'invalid-request',
    'the multipart body is malformed, or has too many or too large parts',
    { cause: error },
  )
}
