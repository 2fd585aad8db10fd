import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { stopParsing } from './parsing.ts'

interface InProgress {
  /** Responses that are not complete yet: several when requests are pipelined. */
  responses: Set<ServerResponse>
  /** The request whose headers arrived last. */
  last: IncomingMessage
  /** Nothing after `last` is a request: the connection is closed after its response. */
  lastOnConnection: boolean
}

const connections = new WeakMap<Socket, InProgress>()

/**
 * Records a request until its response is complete or the connection is closed.
 * @returns false if an earlier request was the last one of its connection: then this one must not be handled
 */
export function trackRequest(request: IncomingMessage, response: ServerResponse): boolean {
  const { socket } = request
  const known = connections.get(socket)
  if (known?.lastOnConnection) return false
  const state = known ?? { responses: new Set(), last: request, lastOnConnection: false }
  if (!known) connections.set(socket, state)
  state.last = request
  state.responses.add(response)
  response.once('close', () => {
    state.responses.delete(response)
    // The headers may have promised to keep the connection before the garbage arrived.
    if (state.lastOnConnection && state.responses.size === 0) socket.destroySoon()
  })
  return true
}

/** The latest request on this connection if its body is incomplete. */
export function incompleteRequest(socket: Socket): IncomingMessage | undefined {
  const last = connections.get(socket)?.last
  return last && !last.complete && !last.destroyed ? last : undefined
}

/**
 * Reads nothing more from a connection with requests in progress, and closes it after their responses.
 * @returns false if there are none
 */
export function closeAfterResponses(socket: Socket): boolean {
  const state = connections.get(socket)
  if (!state || state.responses.size === 0) return false
  state.lastOnConnection = true
  stopParsing(socket)
  return true
}

/** Closes a connection whose client has closed its side, after the responses in progress, which announce it. */
export function endAfterResponses(socket: Socket): void {
  const state = connections.get(socket)
  if (state && state.responses.size > 0) state.lastOnConnection = true
}

/** Makes this the last request of its connection. What the parser still finds behind it is not handled. */
export function markLastOnConnection(request: IncomingMessage): void {
  const state = connections.get(request.socket)
  if (state?.last === request) state.lastOnConnection = true
}

/** Whether the connection will be closed after the response to this request. */
export function isLastOnConnection(request: IncomingMessage): boolean {
  const state = connections.get(request.socket)
  return state?.lastOnConnection === true && state.last === request
}
