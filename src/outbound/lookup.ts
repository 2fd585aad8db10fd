import { type LookupAddress, NODATA, lookup as systemLookup } from 'node:dns'
import { Resolver } from 'node:dns/promises'
import type { LookupFunction } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

/** Time for the first query of a name, in ms; the second one gets twice as much. */
const queryMs = 1_500
const queries = 2
/** Time to wait for the addresses of the second family, in ms (RFC 8305 §3 says 50). */
const secondFamilyMs = 250
/** Codes that a hosts file, or the search list of the system, may contradict. */
const unknownCodes = ['ENOTFOUND', 'ENODATA', 'ECONNREFUSED', 'EBADNAME']

/**
 * Resolves names that clients choose, apart from those of platforms. The system's own look-up has two threads for the
 * whole process, and a name server that does not respond holds one for ten seconds: a few dead names would stop every
 * other call. So names are resolved over sockets, and the system resolves only those that the name servers do not
 * know, one at a time.
 * @param servers for tests: addresses of name servers, in place of those of the system
 */
export function createNameLookup(servers?: readonly string[]): LookupFunction {
  const resolver = new Resolver({ timeout: queryMs, tries: queries })
  if (servers) resolver.setServers(servers)
  let system: Promise<unknown> = Promise.resolve()

  async function resolve(hostname: string): Promise<LookupAddress[]> {
    if (/(^|\.)localhost$/.test(hostname)) return askSystem(hostname)
    try {
      return await askServers(resolver, hostname)
    } catch (error) {
      if (!unknownCodes.includes((error as NodeJS.ErrnoException).code ?? '')) throw error
      const asked = system.then(() => askSystem(hostname))
      system = asked.catch(() => {})
      return asked
    }
  }

  return (hostname, _options, callback) => {
    resolve(hostname).then(
      (addresses) => callback(null, addresses),
      (error) => callback(error, []),
    )
  }
}

/** @throws what the query for IPv4 addresses failed with, if the other one failed too */
async function askServers(resolver: Resolver, hostname: string): Promise<LookupAddress[]> {
  const found: LookupAddress[][] = [[], []]
  const asked = [
    resolver.resolve4(hostname).then((list) => (found[0] = list.map((address) => ({ address, family: 4 })))),
    resolver.resolve6(hostname).then((list) => (found[1] = list.map((address) => ({ address, family: 6 })))),
  ]
  await Promise.any(asked).catch(({ errors }: AggregateError) => {
    throw errors[0]
  })
  await Promise.race([Promise.allSettled(asked), sleep(secondFamilyMs)])
  const addresses = found.flat()
  if (addresses.length > 0) return addresses
  // Such as an alias that leads to itself.
  throw Object.assign(new Error(`${hostname} has no address`), { code: NODATA })
}

function askSystem(hostname: string): Promise<LookupAddress[]> {
  return new Promise((resolve, reject) =>
    systemLookup(hostname, { all: true }, (error, addresses) => (error ? reject(error) : resolve(addresses))),
  )
}
