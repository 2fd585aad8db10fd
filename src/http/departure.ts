import type { ServerResponse } from 'node:http'

/**
 * Returns a signal that is aborted when the response is over, or its client has left. A client that closes its side may
 * still read, but it can only be told from one that has left by writing to it, so nothing that waits goes on for it.
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
