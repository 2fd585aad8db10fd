import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { key } from './gateway.ts'

/** A connection on which a test says exactly what it wants. */
export interface RawConnection {
  socket: Socket
  write(data: string | Uint8Array): void
  /** Everything that came so far. */
  received(): string
  /** Everything that came until the other side closed, or `ms` passed. */
  rest(ms?: number): Promise<string>
}

export async function rawConnection(url: string): Promise<RawConnection> {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  let received = ''
  socket.on('data', (chunk) => {
    received += chunk.toString('latin1')
  })
  socket.on('error', () => {})
  await once(socket, 'connect')
  return {
    socket,
    write: (data) => void socket.write(data),
    received: () => received,
    async rest(ms = 10_000) {
      if (!socket.closed)
        // A reset is an end like any other.
        await Promise.race([
          once(socket, 'close').catch(() => {}),
          new Promise((resolve) => setTimeout(resolve, ms).unref()),
        ])
      return received
    },
  }
}

/** The head of a request with these headers. */
export function requestHead(method: string, path: string, headers: Record<string, string | number>): string {
  const lines = Object.entries({ host: 'gateway', ...headers }).map(
    ([name, value]) => `${name}: ${value}\r\n`,
  )
  return `${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n`
}

/** Begins an upload of `size` bytes; the bytes are the test's to send. The connection closes after the answer. */
export async function beginPut(url: string, id: string, size: number): Promise<RawConnection> {
  const connection = await rawConnection(url)
  const headers = {
    authorization: `Bearer ${key}`,
    'content-type': 'video/mp4',
    'content-length': size,
    connection: 'close',
  }
  connection.write(requestHead('PUT', `/v1/videos/${id}/content`, headers))
  return connection
}
