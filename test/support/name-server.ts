import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { isIPv4 } from 'node:net'
import type { Test } from 'tap'

/** Addresses of a name, or the name that it is an alias of; none if it does not exist; undefined: no response. @param count queries of this name before */
export type Resolve = (name: string, count: number) => readonly string[] | undefined

export interface NameServer {
  /** As `dns.setServers` takes it. */
  address: string
  /** Queries for IPv4 addresses, by name. */
  queries: Map<string, number>
}

/** A name server (RFC 1035) for A records; it knows no IPv6. */
export async function startNameServer(t: Test, resolve: Resolve): Promise<NameServer> {
  const queries = new Map<string, number>()
  const socket = createSocket('udp4')
  socket.on('message', (query, { port, address }) => {
    const { name, type, end } = questionOf(query)
    const count = queries.get(name) ?? 0
    if (type === 1) queries.set(name, count + 1)
    const addresses = resolve(name, count)
    if (addresses) socket.send(respond(query.subarray(0, end), type === 1 ? addresses : []), port, address)
  })
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  t.teardown(() => socket.close())
  return { address: `127.0.0.1:${socket.address().port}`, queries }
}

function questionOf(query: Buffer): { name: string; type: number; end: number } {
  const labels: string[] = []
  let at = 12
  for (let length = query[at]!; length > 0; length = query[at]!) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length))
    at += length + 1
  }
  return { name: labels.join('.').toLowerCase(), type: query.readUInt16BE(at + 1), end: at + 5 }
}

function respond(question: Buffer, addresses: readonly string[]): Buffer {
  const head = Buffer.from(question.subarray(0, 12))
  head.writeUInt16BE(0x8180, 2)
  head.writeUInt16BE(addresses.length, 6)
  head.writeUInt32BE(0, 8)
  const records = addresses.map((address) => {
    const [type, data] = isIPv4(address)
      ? [1, address.split('.').map(Number)]
      : [5, [...address.split('.').flatMap((label) => [label.length, ...Buffer.from(label)]), 0]]
    // The name of the question, A or CNAME, IN, a time to live of 0.
    return Buffer.from([0xc0, 12, 0, type, 0, 1, 0, 0, 0, 0, 0, data.length, ...data])
  })
  return Buffer.concat([head, question.subarray(12), ...records])
}
