import type { Socket } from 'node:net'
import { buildConnector } from 'undici'

/** Codes of a failed write after the peer has closed the connection (errno(3)). */
const closedByPeer = ['EPIPE', 'ECONNRESET', 'ECONNABORTED']
/** Maximum time to read the data that has arrived, in ms; it usually takes moments. Ends the wait if reading is paused. */
const readGraceMs = 1_000

/**
 * Opens connections whose response outlives a failed write.
 * @param timeout until the connection is established, TLS included, in milliseconds
 */
export function createConnector(timeout: number): buildConnector.connector {
  const connect = buildConnector({ timeout })
  return (options, callback) =>
    connect(options, (...[error, socket]: buildConnector.CallbackArgs) => {
      if (error) return callback(error, null)
      readBeforeFailing(socket)
      callback(null, socket)
    })
}

/**
 * Holds back the failure of a write until everything that the peer sent before has been read. A server that rejects an
 * upload early and closes immediately resets the connection (RFC 9112 §9.6). The next write then fails, Node destroys the
 * socket, and the response that waits in the receive buffer is lost. On a reset connection, reading goes on to the end
 * of that buffer and ends or fails there, and that ends the exchange, if its response has not.
 *
 * What the network or the system has discarded cannot be read: a response behind a lost packet, or, on systems other
 * than Linux, in a buffer that the reset emptied. Then the failure is all there is: `platform-unavailable`.
 *
 * Only HTTP/1.1 writes this way; HTTP/2 writes to the handle below.
 */
function readBeforeFailing(socket: Socket): void {
  const write = socket._write.bind(socket)
  const writev = socket._writev?.bind(socket)
  const deferred = (done: Done): Done => {
    return (error) => {
      if (!isClosedByPeer(error) || socket.readableEnded || socket.destroyed) return done(error)
      const timer = setTimeout(done, readGraceMs, error)
      socket.once('close', () => clearTimeout(timer))
    }
  }
  socket._write = (chunk, encoding, done) => write(chunk, encoding, deferred(done))
  if (writev) socket._writev = (chunks, done) => writev(chunks, deferred(done))
}

type Done = (error?: Error | null) => void

function isClosedByPeer(error: Error | null | undefined): boolean {
  return error instanceof Error && 'code' in error && closedByPeer.includes(String(error.code))
}
