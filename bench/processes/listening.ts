import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'

/** Listens on a free port of loopback, sends its URL to the bench, and exits with it. */
export function listen(server: Server): void {
  server.listen(0, '127.0.0.1', () => announce((server.address() as AddressInfo).port))
}

export function announce(port: number): void {
  process.send?.({ url: `http://127.0.0.1:${port}` })
  process.once('disconnect', () => process.exit())
}
