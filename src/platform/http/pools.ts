import { Agent, type Dispatcher, request as dispatch } from 'undici'
import type { PlatformTools } from '../tools.ts'
import { createConnector } from './connect.ts'
import { type Kind, policies } from './request.ts'

/** The longest body of any response, in bytes; undici stops reading there. Nothing is decompressed. */
const maxResponseBytes = 4 * 1024 * 1024
/** Connections that a pool keeps open to one origin after use. With more calls in progress, the rest are closed. */
const maxKeptConnections = 64
/** Maximum time for which an idle connection is kept, even if the platform offers more by `Keep-Alive`. Milliseconds. */
const maxIdleMs = 60_000

type RequestOptions = Omit<Dispatcher.RequestOptions<null>, 'origin' | 'path' | 'reset'>

export interface Pool {
  /** Sends a request. The body of its response has to be read or dumped. */
  request(url: string, options: RequestOptions): Promise<Dispatcher.ResponseData>
  close(): Promise<void>
}

/**
 * The connections to a platform, apart by what they carry: a slow or interrupted upload never delays a call, nor does
 * a call meet a connection that an upload has spoiled. None of them limits how many connections are open at a time:
 * what waits for a connection would be paid for by the others.
 */
export function createPools({ timeouts }: PlatformTools): Record<Kind, Pool> {
  const open = (kind: Kind, options: Agent.Options = {}) => {
    const { headers } = policies[kind]
    return createPool({
      connect: createConnector(timeouts.connect),
      headersTimeout: headers === null ? 0 : timeouts[headers],
      bodyTimeout: timeouts.answer,
      maxResponseSize: maxResponseBytes,
      keepAliveMaxTimeout: maxIdleMs,
      ...options,
    })
  }
  return {
    call: open('call'),
    chunk: open('chunk'),
    // A stream cannot be sent twice, so it must not meet a kept connection that the platform is just closing.
    stream: open('stream', { pipelining: 0 }),
  }
}

/**
 * Keeps at most {@link maxKeptConnections} connections for each origin. undici has no such limit, but it uses the first
 * free connection of a list. So a request that begins while fewer are in progress gets one of the first 64 places, and
 * only these are kept; any other connection is closed after its response.
 */
function createPool(options: Agent.Options): Pool {
  const agent = new Agent(options)
  let inProgress = 0
  return {
    async request(url, options) {
      const surplus = inProgress >= maxKeptConnections
      inProgress += 1
      // undici frees a connection one turn of the event loop after its response.
      const done = () => void setImmediate(() => (inProgress -= 1))
      try {
        const response = await dispatch(url, {
          ...options,
          dispatcher: agent,
          ...(surplus && { reset: true }),
        })
        response.body.once('close', done)
        return response
      } catch (error) {
        done()
        throw error
      }
    },
    close: () => agent.destroy(),
  }
}
