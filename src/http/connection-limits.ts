import type { Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { limitPipelining } from './pipelining.ts'

export interface ConnectionLimits {
  /**
   * Maximum number of open connections. A connection takes 20 to 100 KiB of memory and, with an upload, two file
   * descriptors; one core is busy with far fewer.
   */
  maxConnections: number
  /** Time after which a client that accepts no byte of a response is disconnected, in ms. */
  responseIdleMs: number
}

export const defaultLimits: ConnectionLimits = { maxConnections: 2_048, responseIdleMs: 30_000 }

/** Time between two reports that connections are refused, in ms. */
const reportIntervalMs = 60_000

/**
 * Bounds what one connection, and all of them together, may take. At the maximum number, idle connections are closed to
 * make room for the next ones.
 * @param onRefused called when connections are refused, at most once per minute
 */
export function limitConnections(
  server: Server,
  { maxConnections, responseIdleMs }: ConnectionLimits,
  onRefused: () => void,
): void {
  server.maxConnections = maxConnections
  server.timeout = responseIdleMs
  limitPipelining(server)
  let nextReportAt = 0
  server.on('drop', () => {
    server.closeIdleConnections()
    if (performance.now() < nextReportAt) return
    nextReportAt = performance.now() + reportIntervalMs
    onRefused()
  })
}

/**
 * Disconnects a client that accepts no byte of its response for `responseIdleMs`. Without this listener Node would also
 * disconnect clients that wait for a response, or whose upload pauses: these have their own limits.
 */
export function keepWhileWaiting(response: ServerResponse): void {
  response.on('timeout', (socket: Socket) => {
    if (socket.writableLength > 0) socket.destroy()
  })
}
