import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'

export interface Span {
  traceId: string
  spanId: string
  /** Empty for a root. */
  parentSpanId: string
  name: string
  kind: 'server' | 'client' | 'other'
  failed: boolean
  attributes: Record<string, unknown>
  /** Of the process that it comes from. */
  resource: Record<string, unknown>
}

export interface Collector {
  url: string
  spans: Span[]
  /** All that came, as it came. */
  raw: Buffer[]
  headers: IncomingHttpHeaders[]
  close(): void
}

/** A receiver of traces: OTLP over HTTP, in Protobuf. It answers every request with this status, or never. */
export async function startCollector(t: Test, status: number | 'never' = 200): Promise<Collector> {
  const [spans, raw, headers]: [Span[], Buffer[], IncomingHttpHeaders[]] = [[], [], []]
  const server = createServer(async (request, response) => {
    const body = Buffer.concat(await request.toArray())
    const proper = request.method === 'POST' && request.url === '/v1/traces'
    if (!proper) return void response.writeHead(404).end()
    raw.push(body)
    headers.push(request.headers)
    spans.push(...spansOf(body))
    if (status !== 'never') response.writeHead(status, { 'content-type': 'application/x-protobuf' }).end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const close = () => {
    server.close()
    server.closeAllConnections()
  }
  t.teardown(close)
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, spans, raw, headers, close }
}

/**
 * The fields that matter of an ExportTraceServiceRequest
 * (https://github.com/open-telemetry/opentelemetry-proto, trace/v1/trace.proto).
 */
function spansOf(body: Buffer): Span[] {
  return messages(body, 1).flatMap((resourceSpans) => {
    const resource = attributesOf(messages(resourceSpans, 1)[0], 1)
    const spans = messages(resourceSpans, 2).flatMap((scopeSpans) => messages(scopeSpans, 2))
    return spans.map((span) => ({
      traceId: messages(span, 1)[0]?.toString('hex') ?? '',
      spanId: messages(span, 2)[0]?.toString('hex') ?? '',
      parentSpanId: messages(span, 4)[0]?.toString('hex') ?? '',
      name: String(messages(span, 5)[0]),
      kind: ({ 2: 'server', 3: 'client' } as const)[Number(fieldsOf(span).get(6)?.[0])] ?? 'other',
      failed: messages(span, 15).some((status) => fieldsOf(status).get(3)?.[0] === 2n),
      attributes: attributesOf(span, 9),
      resource,
    }))
  })
}

function attributesOf(message: Buffer | undefined, field: number): Record<string, unknown> {
  const pairs = message ? messages(message, field) : []
  return Object.fromEntries(
    pairs.map((pair) => {
      const [[kind, [value]] = [0, []]] = fieldsOf(messages(pair, 2)[0] ?? Buffer.alloc(0))
      const plain = kind === 1 ? String(value) : kind === 3 ? Number(value) : value
      return [String(messages(pair, 1)[0]), plain]
    }),
  )
}

/** The values of a field that holds messages, strings or bytes. */
function messages(message: Buffer, field: number): Buffer[] {
  return (fieldsOf(message).get(field) ?? []) as Buffer[]
}

/** The values by field number: numbers as bigint, all else as bytes (https://protobuf.dev/programming-guides/encoding/). */
function fieldsOf(message: Buffer): Map<number, (Buffer | bigint)[]> {
  const fields = new Map<number, (Buffer | bigint)[]>()
  let at = 0
  const varint = () => {
    let value = 0n
    for (let shift = 0n; ; shift += 7n) {
      const byte = message.readUInt8(at++)
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return value
    }
  }
  const take = (length: number) => {
    at += length
    return message.subarray(at - length, at)
  }
  while (at < message.length) {
    const tag = Number(varint())
    const [field, type] = [tag >> 3, tag & 7]
    const value = type === 0 ? varint() : type === 1 ? take(8) : type === 5 ? take(4) : take(Number(varint()))
    fields.set(field, [...(fields.get(field) ?? []), value])
  }
  return fields
}
