import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'

/** A network between the gateway and a server, with the faults that networks have. */
export interface TcpProxy {
  port: number
  /** Drops everything, on old connections and new ones, and tells nobody. */
  hold(): void
  release(): void
  /** Silences the connections that there are, without closing them; new ones work. */
  halfOpen(): void
  /** Everything takes this long in each direction, in ms. */
  delay(ms: number): void
  /** Closes all connections: in order, with a reset, or on the server's side alone. */
  cut(how?: 'close' | 'reset' | 'server-only'): void
}

export async function startTcpProxy(t: Test, port: number): Promise<TcpProxy> {
  const pairs = new Set<{ near: Socket; far: Socket; silent: boolean }>()
  let held = false
  let delayMs = 0
  const proxy = createServer((near) => {
    const far = connect(port, '127.0.0.1')
    const pair = { near, far, silent: false }
    pairs.add(pair)
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.on('data', async (data) => {
        // Timers of equal length keep the order.
        if (delayMs > 0) await sleep(delayMs)
        if (!held && !pair.silent && to.writable) to.write(data)
      })
      from.on('error', () => {})
      from.on('close', () => {
        pairs.delete(pair)
        if (!pair.silent) to.destroy()
      })
    }
  }).listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  const cut: TcpProxy['cut'] = (how = 'close') => {
    for (const { near, far } of pairs) {
      if (how === 'server-only') near.end()
      else if (how === 'reset') near.resetAndDestroy()
      else near.destroy()
      if (how !== 'server-only') far.destroy()
    }
  }
  t.teardown(() => {
    for (const pair of pairs) {
      pair.near.destroy()
      pair.far.destroy()
    }
    proxy.close()
  })
  return {
    port: (proxy.address() as { port: number }).port,
    hold: () => {
      held = true
    },
    release: () => {
      held = false
    },
    halfOpen: () => {
      for (const pair of pairs) {
        pair.silent = true
        pair.far.destroy()
      }
    },
    delay: (ms) => {
      delayMs = ms
    },
    cut,
  }
}
