import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import type { Test } from 'tap'

export interface RecordedRequest {
  method: string
  path: string
  query: string
  headers: IncomingHttpHeaders
}

/** Every request that the server of this origin gets, which runs in this process; headers as they came over the wire. */
export function recordRequests(t: Test, origin: string): RecordedRequest[] {
  const recorded: RecordedRequest[] = []
  const port = Number(new URL(origin).port)
  const record = (message: unknown) => {
    const { request } = message as { request: IncomingMessage }
    const { method = '', url = '', headers, socket } = request
    const [path = '', query = ''] = url.split('?')
    if (socket.localPort === port) recorded.push({ method, path, query, headers })
  }
  subscribe('http.server.request.start', record)
  t.teardown(() => unsubscribe('http.server.request.start', record))
  return recorded
}
