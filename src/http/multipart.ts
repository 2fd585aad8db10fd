import type { FastifyRequest } from 'fastify'
import { GatewayError } from '../errors.ts'
import type { Incoming } from '../publication/upload.ts'
import { requestDeadline, requestTimeout } from './connections.ts'
import { type FormFraming, isPossibleSize, lookahead, possibleSizes } from './form-size.ts'
import { FormStream } from './form-stream.ts'
import { parseHeaderValue } from './media-type.ts'
import { checkFilePart, decodeField, invalidField, type PartHeaders } from './part.ts'

const maxFieldBytes = 64 * 1024

/** Fields of any form in addition to those of the call: the size of the file, and the charset of the fields. */
const formFields = ['size', '_charset_']

export interface Form {
  /** The named fields that the form has, each at most once. */
  fields: Record<string, string>
  incoming: Incoming
}

/**
 * Reads a form up to its file: the named fields and `size`, each at most once, then the part `file`, which is the last.
 * The file itself is not read yet; what comes before it must be there within the request's deadline.
 * @throws GatewayError `invalid-request`, `incomplete-upload`, `unsupported-media-type` or `request-timeout`
 */
export async function readForm(request: FastifyRequest, names: readonly string[]): Promise<Form> {
  const boundary = boundaryOf(request.headers['content-type'])
  const total = Number(request.headers['content-length'] ?? Number.NaN)
  const fields = new Map<string, string>()
  const { promise: form, resolve, reject } = Promise.withResolvers<Form>()
  const stream = new FormStream(boundary, {
    part({ name }) {
      if (!names.includes(name) && !formFields.includes(name))
        throw invalidField(name, 'is not a field of this form; the video goes in the part `file`')
    },
    field: (headers, value) => addField(fields, headers, value),
    file(headers, start) {
      checkFilePart(headers)
      const framing = { boundary, total, start, partLength: headers.length }
      const given = Object.fromEntries([...fields].filter(([name]) => !formFields.includes(name)))
      const size = declaredSize(fields.get('size'), framing)
      resolve({ fields: given, incoming: incomingFile(stream, framing, size) })
    },
  })
  stream.once('error', reject)
  const { raw } = request
  const cut = (cause?: unknown) => {
    if (!raw.readableEnded) stream.destroy(truncatedForm(cause))
  }
  raw.once('close', cut).once('error', cut)
  if (raw.destroyed) cut()
  const timer = setTimeout(() => stream.destroy(requestTimeout()), requestDeadline).unref()
  raw.pipe(stream)
  try {
    return await form
  } finally {
    clearTimeout(timer)
  }
}

export function isForm(contentType: string | undefined): boolean {
  return /^multipart\/form-data\s*(;|$)/i.test(contentType ?? '')
}

/** RFC 2046 §5.1.1. @throws GatewayError `invalid-request` */
function boundaryOf(contentType = ''): string {
  const boundary = parseHeaderValue(contentType)?.parameters.get('boundary')
  if (boundary !== undefined && /^[ -~]{0,69}[!-~]$/.test(boundary)) return boundary
  throw new GatewayError(
    'invalid-request',
    'Content-Type has no valid boundary (1 to 70 characters). Do not set Content-Type of a form yourself: your HTTP library adds the boundary that it uses.',
  )
}

function addField(fields: Map<string, string>, headers: PartHeaders, value: Buffer): void {
  const { name } = headers
  if (fields.has(name)) throw invalidField(name, 'occurs more than once')
  if (value.length > maxFieldBytes) throw invalidField(name, `must have at most ${maxFieldBytes} bytes`)
  fields.set(name, decodeField(headers, value, fields.get('_charset_') || undefined))
}

/** @returns the bytes that the field `size` announces, null without that field @throws GatewayError */
function declaredSize(text: string | undefined, framing: FormFraming): number | null {
  // A form on a web page sends a field that was not filled in.
  if (!text) return null
  if (!/^\d{1,15}$/.test(text))
    throw invalidField('size', 'must be the length of the file in bytes, in digits')
  if (!isPossibleSize(framing, Number(text)))
    throw invalidField('size', 'does not match Content-Length: it must be the length of the file in bytes')
  return Number(text)
}

function incomingFile(source: FormStream, framing: FormFraming, size: number | null): Incoming {
  return {
    source,
    size,
    async possibleSizes() {
      // Without Content-Length only a declared size counts: a short file, whose end is known, must not behave differently.
      if (Number.isNaN(framing.total)) return framing.partLength === undefined ? [] : [framing.partLength]
      const { head, whole } = await source.peek(lookahead.bytes, lookahead.milliseconds)
      return possibleSizes(framing, head, whole)
    },
  }
}

function truncatedForm(cause: unknown): GatewayError {
  if (cause instanceof GatewayError) return cause
  return new GatewayError('incomplete-upload', 'The form ended before its closing boundary. Send it again.', {
    cause,
  })
}
