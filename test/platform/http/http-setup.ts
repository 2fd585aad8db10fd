import { once } from 'node:events'
import type { AddressInfo, Server } from 'node:net'
import { Readable } from 'node:stream'
import type { Test } from 'tap'
import { type Authorization, createPlatformHttp } from '../../../src/platform/http/http.ts'
import type { PlatformRequest } from '../../../src/platform/http/request.ts'
import type { PlatformTools } from '../../../src/platform/tools.ts'
import { createKit, type Exchange, type Fault } from '../double.ts'

const { signal } = new AbortController()
export const get: PlatformRequest = { operation: 'status', method: 'GET', url: 'thing', signal }
export const post: PlatformRequest = {
  operation: 'provision',
  method: 'POST',
  url: 'thing',
  json: {},
  signal,
}
const permanent: Authorization = { header: async () => 'Bearer one', invalidate: () => false }

interface Options {
  tools?: Partial<PlatformTools>
  authorization?: Authorization
  uploadHosts?: string[]
  /** The base URL's path; none if not given. */
  basePath?: string
  handle?: (exchange: Exchange) => void | Promise<void>
}

/** The shared HTTP in front of a server that answers `{ok: true}` to anything, unless `handle` says otherwise. */
export async function setUp(
  t: Test,
  { tools, authorization = permanent, uploadHosts, basePath = '', handle }: Options = {},
) {
  const kit = createKit()
  const seen: Exchange[] = []
  const origin = await kit.listen({
    operations: () => ['status'],
    async handle(exchange) {
      seen.push(exchange)
      if (handle) return handle(exchange)
      await exchange.body()
      exchange.answer(200, { ok: true })
    },
  })
  const circuits: string[] = []
  const outcomes: string[] = []
  const http = createPlatformHttp({
    name: 'acme',
    baseUrl: origin + basePath,
    authorization,
    ...(uploadHosts && { uploadHosts }),
    tools: {
      log: { info() {}, warn() {}, error() {} },
      observer: {
        call: ({ outcome }) => void outcomes.push(outcome),
        circuit: (_platform, state) => void circuits.push(state),
        tokenRequest() {},
      },
      traceHeaders: () => undefined,
      timeouts: { connect: 300, answer: 200, whole: 5_000, afterUpload: 300 },
      settles: [],
      retries: 2,
      circuit: { failures: 100, halfOpenAfter: 300 },
      ...tools,
    },
  })
  t.teardown(async () => {
    await http.close()
    await kit.close()
  })
  const fail = (fault: Fault, times = 1) => kit.fail('status', fault, times)
  return { http, fail, seen, origin, circuits, outcomes, calls: () => kit.calls('status') }
}

export async function listen(server: Server): Promise<string> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
}

/** Comes as from a network, one piece per turn of the event loop. */
export function paced(size: number): Readable {
  let left = size
  const stream = new Readable({
    highWaterMark: 0,
    read() {
      const piece = Buffer.alloc(Math.min(left, 65_536))
      left -= piece.length
      setImmediate(() => stream.push(piece.length > 0 ? piece : null))
    },
  })
  return stream
}
