import { BlockList, isIP } from 'node:net'

/** Addresses that the gateway may dial when a client chooses them: for a webhook, or to fetch a file. */
export interface AddressRules {
  /** Whether the address may be dialled. Anything but an IP address may not. */
  permits(address: string): boolean
}

/** IPv4 addresses that are not those of a host on the internet (IANA IPv4 Special-Purpose Address Registry; RFC 5771). */
const specialIPv4 = [
  '0.0.0.0/8', // this host, unspecified
  '10.0.0.0/8', // private
  '100.64.0.0/10', // shared by carriers; metadata services of some clouds
  '127.0.0.0/8', // loopback
  '169.254.0.0/16', // link-local; metadata services of most clouds
  '172.16.0.0/12', // private
  '192.0.0.0/24', // protocol assignments
  '192.0.2.0/24', // documentation
  '192.31.196.0/24', // AS112
  '192.52.193.0/24', // AMT
  '192.88.99.0/24', // 6to4 relays
  '192.168.0.0/16', // private
  '192.175.48.0/24', // AS112
  '198.18.0.0/15', // benchmarks
  '198.51.100.0/24', // documentation
  '203.0.113.0/24', // documentation
  '224.0.0.0/4', // multicast
  '240.0.0.0/4', // reserved, broadcast
]

/**
 * All global unicast addresses of IPv6 are in here (RFC 4291 §2.4). What is outside of it is loopback, unspecified,
 * mapped, NAT64, unique-local, link-local, multicast, or not assigned.
 */
const globalIPv6 = '2000::/3'
/** Those in it that are not those of a host, or hide an IPv4 address (IANA IPv6 Special-Purpose Address Registry). */
const specialIPv6 = [
  '2001::/23', // protocol assignments: Teredo, ORCHID, benchmarks
  '2001:db8::/32', // documentation
  '2002::/16', // 6to4
  '2620:4f:8000::/48', // AS112
  '3ffe::/16', // the 6bone, given back
  '3fff::/20', // documentation
]

const notPublicIPv4 = networksOf(specialIPv4)
const publicIPv6 = networksOf([globalIPv6])
const notPublicIPv6 = networksOf(specialIPv6)
const loopback = networksOf(['127.0.0.0/8', '::1'])

/**
 * Permits public addresses, and those that the operator names.
 * @param networks addresses and networks in addition to public ones, such as `10.0.0.0/8` or `fd00::/8`
 */
export function createAddressRules(networks: readonly string[] = []): AddressRules {
  const named = networksOf(networks)
  return { permits: (address) => isPublic(address) || isIn(named, address) }
}

/** Whether an address is that of this machine itself. */
export function isLoopback(address: string): boolean {
  return isIn(loopback, address)
}

function isPublic(address: string): boolean {
  // An address with a zone is bound to a link.
  if (address.includes('%')) return false
  const version = isIP(address)
  if (version === 4) return !isIn(notPublicIPv4, address)
  return version === 6 && isIn(publicIPv6, address) && !isIn(notPublicIPv6, address)
}

function isIn(networks: BlockList, address: string): boolean {
  const version = isIP(address)
  return version !== 0 && networks.check(address.replace(/%.*/, ''), version === 4 ? 'ipv4' : 'ipv6')
}

function networksOf(list: readonly string[]): BlockList {
  const networks = new BlockList()
  for (const text of list) {
    const [address = '', bits] = text.trim().split('/')
    const family = isIP(address) === 4 ? 'ipv4' : 'ipv6'
    if (bits === undefined) networks.addAddress(address, family)
    else networks.addSubnet(address, Number(bits), family)
  }
  return networks
}
