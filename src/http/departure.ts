import type { ServerResponse } from 'node:http'

/**
 * Returns a signal that is aborted when the response is over, or its client has left. A client that closes its side may
 * still read, but only a write distinguishes it from one that has left, so nothing keeps waiting for it.
 */
export function departureOf(response: ServerResponse): AbortSignal {
  const left = new AbortController()
  const leave = () => left.abort()
  const { socket } = response
  socket?.once('end', leave)
  response.once('close', () => {
    socket?.off('end', leave)
    leave()
  })
  if (socket?.readableEnded || response.closed) leave()
  return left.signal
}
