import { GatewayError } from '../errors.ts'
import { type HeaderValue, parseHeaderValue } from './media-type.ts'

/** The headers of a part of a form (RFC 7578 §4). Other headers "MUST be ignored" (§4.8). */
export interface PartHeaders {
  name: string
  /** Undefined when the part has no Content-Type. */
  type: HeaderValue | undefined
  /** `Content-Transfer-Encoding`, in lower case; an empty string when there is none. */
  transferEncoding: string
  contentEncoding: string
  /** `Content-Length`, in bytes; undefined when there is none, or it is not a number. */
  length: number | undefined
}

/** Codings that leave the bytes as they are (RFC 2045 §6.2). */
const identities = ['', '7bit', '8bit', 'binary']

/** @param block the header lines, without the empty line @throws GatewayError `invalid-request` */
export function parsePartHeaders(block: string): PartHeaders {
  const lines = block === '' ? [] : block.replace(/\r\n[ \t]+/g, ' ').split('\r\n')
  const fields = new Map<string, string>()
  for (const line of lines) {
    const [, name, value] = /^([!#$%&'*+.^_`|~\w-]+):[ \t]*(.*?)[ \t]*$/s.exec(line) ?? []
    if (name === undefined || value === undefined)
      throw new GatewayError('invalid-request', 'A part of the form has a malformed header line.')
    if (fields.has(name.toLowerCase()))
      throw new GatewayError('invalid-request', 'A part of the form has the same header twice.')
    fields.set(name.toLowerCase(), value)
  }
  const disposition = parseHeaderValue(fields.get('content-disposition') ?? '')
  const name = disposition?.value === 'form-data' ? disposition.parameters.get('name') : undefined
  if (name === undefined)
    throw new GatewayError(
      'invalid-request',
      'Every part of the form needs the header Content-Disposition: form-data; name="NAME".',
    )
  const type = fields.get('content-type')
  const length = fields.get('content-length') ?? ''
  return {
    name: Buffer.from(name, 'latin1').toString(),
    type: type === undefined ? undefined : (parseHeaderValue(type) ?? { value: type, parameters: new Map() }),
    transferEncoding: (fields.get('content-transfer-encoding') ?? '').toLowerCase(),
    contentEncoding: (fields.get('content-encoding') ?? '').toLowerCase(),
    length: /^\d{1,15}$/.test(length) ? Number(length) : undefined,
  }
}

/**
 * Decodes the value of a field. Its charset is that of its Content-Type, else that of the field `_charset_`
 * (RFC 7578 §4.6), else UTF-8. Charsets are those of the WHATWG Encoding Standard: iso-8859-1 is windows-1252.
 * @throws GatewayError `invalid-request`
 */
export function decodeField(
  { name, type, ...headers }: PartHeaders,
  bytes: Buffer,
  charset = 'utf-8',
): string {
  if (type !== undefined && type.value !== 'text/plain')
    throw invalidField(name, 'must be plain text: send it without Content-Type, or as text/plain')
  for (const [header, coding] of codings(headers))
    throw invalidField(name, `must be sent as it is, without ${header}: ${coding.slice(0, 50)}`)
  const label = type?.parameters.get('charset') ?? charset
  const decoder = decoderOf(label)
  if (!decoder) throw invalidField(name, 'has a charset that is not supported: send it in UTF-8')
  try {
    return decoder.decode(bytes)
  } catch {
    throw invalidField(
      name,
      `is not valid ${decoder.encoding}: send it in UTF-8, or name its charset in its Content-Type`,
    )
  }
}

/** Checks the headers of the part `file`; later its first bytes decide whether it is an MP4. @throws GatewayError `unsupported-media-type` */
export function checkFilePart({ type, ...headers }: PartHeaders): void {
  if (type !== undefined && !isContentType(type.value))
    throw new GatewayError(
      'unsupported-media-type',
      'The part `file` must be an MP4 with Content-Type: video/mp4, application/octet-stream or none.',
    )
  for (const [header, coding] of codings(headers))
    throw new GatewayError(
      'unsupported-media-type',
      `Send the bytes of the part \`file\` as they are, without ${header}: ${coding.slice(0, 50)}.`,
    )
}

/** Types under which an MP4 is sent. */
export function isContentType(type: string): boolean {
  return type === 'video/mp4' || type === 'application/octet-stream'
}

export function invalidField(name: string, message: string): GatewayError {
  const path = `/${name}`.slice(0, 101)
  return new GatewayError('invalid-request', undefined, { errors: [{ path, message }] })
}

/** Returns the headers that say that the bytes are encoded, with their values. */
function codings({
  transferEncoding,
  contentEncoding,
}: Pick<PartHeaders, 'transferEncoding' | 'contentEncoding'>) {
  const found: [string, string][] = []
  if (!identities.includes(transferEncoding)) found.push(['Content-Transfer-Encoding', transferEncoding])
  if (contentEncoding !== '' && contentEncoding !== 'identity')
    found.push(['Content-Encoding', contentEncoding])
  return found
}

function decoderOf(charset: string) {
  try {
    return new TextDecoder(charset, { fatal: true })
  } catch {
    return undefined
  }
}
