import { once } from 'node:events'
import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'

/**
 * A proxy in front of a platform that lets the first POSTs wait for so many ms each.
 * @returns its URL, and when the first has come
 */
export async function slowCreations(t: Test, target: string, delays: number[]) {
  const { promise: arrived, resolve } = Promise.withResolvers<void>()
  const { hostname, port, pathname } = new URL(target)
  let count = 0
  const proxy = createServer(async (incoming, outgoing) => {
    const { method, headers, url: path } = incoming
    if (method === 'POST') {
      resolve()
      await sleep(delays[count++] ?? 0)
    }
    const onward = request({ hostname, port, method, headers, path }, (answer) => {
      outgoing.writeHead(answer.statusCode as number, answer.headers)
      answer.pipe(outgoing)
    })
    onward.on('error', () => outgoing.destroy())
    incoming.pipe(onward)
  }).listen(0, '127.0.0.1')
  t.teardown(() => proxy.close().closeAllConnections())
  await once(proxy, 'listening')
  return { arrived, url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}${pathname}` }
}
