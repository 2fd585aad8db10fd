import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import type { ProcessingStatus, Thumbnail, VideoInfo } from '../../src/platform/platform.ts'
import type { PlatformDefinition } from '../../src/platform/tools.ts'
import type { Published } from './published.ts'
import { type Wire, writeWire } from './wire.ts'

/**
 * What a request to a platform is for. `provision` makes the slot (whichever method of the contract sends it),
 * `upload` carries bytes; one request may be several, as a GET that serves status, info and thumbnail alike.
 */
export type Operation = 'token' | 'provision' | 'find' | 'upload' | 'status' | 'info' | 'thumbnail' | 'remove'

/** Something going wrong with a request. Exactly one of `status`, `hang`, `reset` and `wire`. */
export interface Fault {
  /** Answer this, with `headers` and `body` (a string as it is, anything else as JSON). */
  status?: number
  headers?: Record<string, string>
  body?: unknown
  /** With `status`: reset the connection right after the answer, with the rest of the body unread. */
  abrupt?: boolean
  /** Never answer. */
  hang?: boolean
  /** Cut the connection with a TCP reset, after so many bytes of the body. */
  reset?: { afterBytes: number }
  /** Answer with raw bytes that do not add up to a response. */
  wire?: Wire
  /** Do the work first: only its answer is lost. Not with `afterBytes` above 0. */
  late?: boolean
}

/** A response of a double, before it is sent. `body` is JSON unless it is a string, a Buffer or undefined. */
export interface Answer {
  operations: Operation[]
  status: number
  body: unknown
  headers: Record<string, string>
}

/**
 * A double of a platform: a real HTTP server that checks what it is sent and refuses what the vendor would refuse.
 * `doubles/<name>.ts` exports `startDouble(): Promise<PlatformDouble>`; the conformance suite finds it by that name.
 * Videos are told by their title, which every platform carries.
 */
export interface PlatformDouble {
  definition: PlatformDefinition
  /** Environment of the adapter, pointing at this double. */
  variables: Record<string, string>
  /** Every problem seen in requests (method, path, header, body, token, chunk arithmetic); has to stay empty. */
  violations: string[]
  /** The next `times` requests for this operation fail so; several faults are taken in order. */
  fail(operation: Operation, fault: Fault, times?: number): void
  /** Drops the faults that were not used up. */
  clearFaults(): void
  /** Passes every response of the double through `change` from now on, as a lying platform or proxy would. */
  rewrite(change?: (answer: Answer) => Answer): void
  /** Requests seen for an operation, failed ones included. */
  calls(operation: Operation): number
  /** Whether the slot is made by `upload`, not by `provision`. */
  provisionsAtUpload: boolean
  /** Every status word of the vendor (composite ones under a name of the double's) and what it means. */
  statusWords: Record<string, ProcessingStatus['state']>
  /** A word that the vendor does not have yet. */
  unknownStatusWord: string
  /** Puts an uploaded video into that state. */
  setStatus(title: string, word: string): void
  /** Processing is done: ready, with its metadata. */
  finish(title: string): void
  /** A finished video gets other URLs for playlist and image; those so far are dead. */
  rename(title: string): void
  /** Ready by its status, but its metadata is not there yet (null, -1, left out: as the vendor has it). */
  finishWithoutMetadata?(title: string): void
  /** Processing has failed. @returns a text of the vendor that the failure's message has to contain */
  failProcessing(title: string): string
  /** What arrived of a finished upload, byte for byte. */
  content(title: string): Buffer | undefined
  /** Videos, slots and upload sessions that the vendor's API could still remove. */
  leftovers(): number
  /** What `info` and `thumbnail` have to give for a finished video. */
  expected(title: string): { info: VideoInfo; thumbnail: Thumbnail }
  /** Present where tokens are renewed: how often one was asked for, and how to make all of them invalid. */
  tokens?: { requests(): number; revoke(): void }
  /** Present where uploads go in chunks: the size that `variables` configure (small). Cut chunks are resumed. */
  chunkSize?: number
  /** Present where the platform hands out upload URLs: every one from now on is this one. */
  giveUploadUrl?(url: string): void
  /** From now on no upload's body is read, until the returned function is called. */
  holdUploads(): () => void
  /** What must never be seen or kept: credentials, the tokens given so far, and those in upload URLs. */
  secrets(): string[]
  close(): Promise<void>
}

/** A request to a double and the way to answer it. */
export interface Exchange {
  method: string
  url: URL
  headers: IncomingMessage['headers']
  /** Reads the body; `complete` is false when the client cut it. */
  body(): Promise<{ bytes: Buffer; complete: boolean }>
  /** Reads a JSON body; what is none is a violation, and {} is returned. */
  json(): Promise<Record<string, unknown>>
  /** Answers; a string or Buffer goes as it is, undefined as no body, anything else as JSON. */
  answer(status: number, body?: unknown, headers?: Record<string, string>): void
}

export interface Site {
  /** What a request is for; [] when it is for nothing that the vendor has. */
  operations(method: string, url: URL): Operation[]
  handle(exchange: Exchange): Promise<void> | void
  /** An injected reset cut a body after these bytes: for vendors who keep what arrived. */
  cut?(exchange: Exchange, bytes: Buffer): void
}

/** The parts every double has: servers, injected faults, counts, and the brake for uploads. */
export interface Kit
  extends Pick<
    PlatformDouble,
    'violations' | 'fail' | 'clearFaults' | 'rewrite' | 'calls' | 'holdUploads' | 'close'
  > {
  /** Starts a server on a port of its own and resolves to its origin. Several make several origins. */
  listen(site: Site): Promise<string>
}

export function createKit(published?: Published): Kit {
  const servers: Server[] = []
  const violations: string[] = []
  const faults: { operation: Operation; fault: Fault; times: number }[] = []
  const counts = new Map<Operation, number>()
  let held: Promise<void> | undefined
  let rewrite = (answer: Answer) => answer

  function takeFault(operations: Operation[]): Fault | undefined {
    const entry = faults.find(({ operation, times }) => times > 0 && operations.includes(operation))
    if (entry) entry.times -= 1
    return entry?.fault
  }

  async function serve(site: Site, request: IncomingMessage, response: ServerResponse, origin: string) {
    const url = new URL(request.url ?? '/', origin)
    const method = request.method ?? ''
    const operations = site.operations(method, url)
    if (operations.length === 0) violations.push(`nobody serves ${method} ${url.pathname}`)
    for (const operation of operations) counts.set(operation, (counts.get(operation) ?? 0) + 1)
    const fault = takeFault(operations)
    if (operations.includes('upload')) await held
    if (published) violations.push(...published.request(method, url, request.headers))
    const late = fault?.late ? fault : undefined
    const change: Surroundings['change'] = (answer) => rewrite({ operations, ...answer })
    const exchange = exchangeOf(request, response, url, { late, change, violations, published })
    if (!fault || fault.late) return site.handle(exchange)
    if (fault.reset) {
      const bytes = await readUpTo(request, fault.reset.afterBytes)
      site.cut?.(exchange, bytes)
    }
    strike(request, response, fault)
  }

  return {
    violations,
    rewrite: (change = (answer) => answer) => {
      rewrite = change
    },
    fail: (operation, fault, times = 1) => void faults.push({ operation, fault, times }),
    clearFaults: () => void faults.splice(0),
    calls: (operation) => counts.get(operation) ?? 0,

    holdUploads() {
      const { promise, resolve } = Promise.withResolvers<void>()
      held = promise
      return () => {
        held = undefined
        resolve()
      }
    },

    async listen(site) {
      let origin = ''
      const server = createServer((request, response) => {
        serve(site, request, response, origin).catch((error) => {
          violations.push(`the double broke at ${request.method} ${request.url}: ${error.stack}`)
          response.destroy()
        })
      })
      servers.push(server)
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
      origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
      return origin
    },

    async close() {
      await Promise.all(
        servers.map((server) => {
          server.closeAllConnections()
          return new Promise((resolve) => server.close(resolve))
        }),
      )
    },
  }
}

/** What an exchange has of its double. */
interface Surroundings {
  late: Fault | undefined
  change(answer: Omit<Answer, 'operations'>): Answer
  violations: string[]
  published: Published | undefined
}

function exchangeOf(
  request: IncomingMessage,
  response: ServerResponse,
  url: URL,
  { late, change, violations, published }: Surroundings,
): Exchange {
  const method = request.method ?? ''
  const body = async () => {
    const bytes = await readUpTo(request, Number.POSITIVE_INFINITY)
    if (published && request.complete)
      violations.push(...published.body(method, url, request.headers['content-type'], bytes))
    return { bytes, complete: request.complete }
  }
  return {
    method,
    url,
    headers: request.headers,
    body,
    async json() {
      const { bytes } = await body()
      try {
        return JSON.parse(bytes.toString())
      } catch {
        violations.push(`${request.method} ${url.pathname}: the body is no JSON`)
        return {}
      }
    },
    answer(status, content, headers = {}) {
      if (published) violations.push(...published.answer(method, url, status, content))
      if (late) return strike(request, response, late)
      const changed = change({ status, body: content, headers })
      send(response, changed.status, changed.body, changed.headers)
    },
  }
}

function strike(request: IncomingMessage, response: ServerResponse, fault: Fault): void {
  if (fault.abrupt) rejectAbruptly(request.socket, fault)
  else if (fault.reset) request.socket.resetAndDestroy()
  else if (fault.wire) void writeWire(request, fault.wire)
  else if (!fault.hang) send(response, fault.status ?? 500, fault.body ?? '', fault.headers)
}

/** In one turn, so that the reset comes while the client is still sending, and before it has read the answer. */
function rejectAbruptly(socket: Socket, { status = 500, headers = {}, body = '' }: Fault): void {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  const lines = Object.entries({ ...headers, 'content-length': String(Buffer.byteLength(text)) })
  const head = lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')
  socket.write(`HTTP/1.1 ${status} Rejected\r\n${head}\r\n${text}`, () => socket.resetAndDestroy())
}

function send(response: ServerResponse, status: number, body: unknown, headers: Record<string, string> = {}) {
  const raw = body === undefined || typeof body === 'string' || Buffer.isBuffer(body)
  response.writeHead(status, { ...(!raw && { 'content-type': 'application/json' }), ...headers })
  response.end(raw ? body : JSON.stringify(body))
}

/** Resolves with the bytes once there are so many, at the end, or when the client cut the connection. */
function readUpTo(request: IncomingMessage, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  return new Promise((resolve) => {
    const done = () => resolve(Buffer.concat(chunks).subarray(0, limit))
    if (limit === 0) return done()
    request.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      length += chunk.length
      if (length >= limit) done()
    })
    request.once('end', done).once('close', done)
    request.once('error', done)
  })
}
