import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import type { Test } from 'tap'

/** What the network does with the bytes of all connections, and with new ones. */
export type NetworkFault =
  /** Nothing: bytes pass. */
  | 'none'
  /** Packets are dropped in both directions, as behind a firewall that lost its state. */
  | 'drops everything'
  /** What the server sends does not arrive. */
  | 'drops responses'
  /** What the client sends does not arrive. */
  | 'drops requests'
  /** The server is gone and the client was not notified: connections are half open. */
  | 'half-opens'
  /** Each connection is reset at its next byte. */
  | 'resets'
  /** Bytes arrive, each time after `delayMs`. */
  | 'delays'

export interface TcpProxy {
  port: number
  set(fault: NetworkFault, delayMs?: number): void
  /** Breaks every connection that there is now. */
  cut(): void
}

/** A network between a client and a server on this machine, with its faults. */
export async function startTcpProxy(t: Test, serverPort: number): Promise<TcpProxy> {
  const pairs = new Set<{ near: Socket; far: Socket }>()
  let fault: NetworkFault = 'none'
  let delayMs = 0

  /** @returns whether bytes in this direction arrive now */
  function passes(isRequest: boolean): boolean {
    return (
      fault === 'none' || fault === 'delays' || fault === (isRequest ? 'drops responses' : 'drops requests')
    )
  }

  const proxy = createServer((near) => {
    const far = connect(serverPort, '127.0.0.1')
    const pair = { near, far }
    pairs.add(pair)
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.on('data', (data) => {
        if (fault === 'resets') near.resetAndDestroy()
        else if (fault === 'delays') setTimeout(() => to.destroyed || to.write(data), delayMs)
        else if (passes(from === near)) to.write(data)
      })
      from.on('error', () => {})
    }
    near.on('close', () => {
      pairs.delete(pair)
      far.destroy()
    })
    far.on('close', () => {
      if (fault !== 'half-opens') near.destroy()
    })
  }).listen(0, '127.0.0.1')
  await once(proxy, 'listening')

  function cut(): void {
    for (const { near } of pairs) near.destroy()
  }
  t.teardown(() => {
    cut()
    proxy.close()
  })
  return {
    port: (proxy.address() as { port: number }).port,
    set(next, ms = 0) {
      // A connection that was half open is not whole again by itself.
      if (fault === 'half-opens') for (const { near, far } of pairs) if (far.destroyed) near.destroy()
      fault = next
      delayMs = ms
      if (fault === 'half-opens') for (const { far } of pairs) far.destroy()
    },
    cut,
  }
}
