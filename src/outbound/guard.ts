import { isIP, type LookupFunction } from 'node:net'
import { Agent, buildConnector } from 'undici'
import { type AddressRules, createAddressRules, isLoopback } from './addresses.ts'
import { createNameLookup } from './lookup.ts'

/** Targets that the gateway may call when a client chooses them. */
export interface DialRules {
  addresses: AddressRules
  /** Ports that may be dialled, in addition to those of this machine while `allowsLoopback`. */
  ports: ReadonlySet<number>
  /** Outside production: this machine may be called too, by http as well and on any port. */
  allowsLoopback: boolean
}

/**
 * Makes the rules from the configuration: public addresses and those of `networks`, by https and on `ports`; outside
 * production also this machine, by http and on any port.
 */
export function createDialRules(
  { networks, ports }: { networks: readonly string[]; ports: readonly number[] },
  production: boolean,
): DialRules {
  return { addresses: createAddressRules(networks), ports: new Set(ports), allowsLoopback: !production }
}

/** The target is not one that the gateway calls. The message ends a sentence that begins with the URL. */
export class TargetNotAllowedError extends Error {
  override readonly name = 'TargetNotAllowedError'
  readonly code = 'TARGET_NOT_ALLOWED'
}

const notPublic = 'has an address that is not public: use one that the operator of the gateway allows'
/** Characters of a URL. */
const longestUrl = 2_048
/** Labels of 1 to 63 octets, with or without the dot of the root (RFC 1035 §2.3.4). */
const hostName = /^[^.]{1,63}(\.[^.]{1,63})*\.?$/
const connectMs = 5_000
/** Bytes of the headers of a response. */
const maxHeaderSize = 16 * 1024

/**
 * Checks a URL without resolving its host: the addresses of the host are checked when the gateway connects.
 * @throws TargetNotAllowedError
 */
export function checkTarget(text: string, rules: DialRules): URL {
  if (text.length > longestUrl) throw new TargetNotAllowedError(`is longer than ${longestUrl} characters`)
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (!url || !/^https?:\/\//i.test(text))
    throw new TargetNotAllowedError('is not a URL: send one that begins with https://')
  if (url.username || url.password)
    throw new TargetNotAllowedError('has credentials: send a URL without user and password')
  if (url.hash) throw new TargetNotAllowedError('has a fragment, which is never sent: end the URL before #')
  if (!isIP(bare(url.hostname)) && !hostName.test(url.hostname))
    throw new TargetNotAllowedError('has a host name that cannot exist: its parts have 1 to 63 characters')
  checkOrigin(url, rules)
  return url
}

function checkOrigin({ protocol, hostname, port }: Origin, rules: DialRules): void {
  const host = bare(hostname)
  const isLocal = host === 'localhost' || host.endsWith('.localhost') || isLoopback(host)
  if (isLocal && rules.allowsLoopback && ['http:', 'https:'].includes(protocol)) return
  if (protocol !== 'https:')
    throw new TargetNotAllowedError('is not https: send a URL that begins with https://')
  const number = Number(port || 443)
  if (!rules.ports.has(number))
    throw new TargetNotAllowedError(
      `has the port ${number}, which is not allowed: use ${[...rules.ports].join(' or ')}`,
    )
  if (isIP(host)) checkAddress(host, rules)
}

/** @throws TargetNotAllowedError for an address that may not be dialled */
function checkAddress(address: string, { addresses, allowsLoopback }: DialRules): void {
  if (addresses.permits(address) || (allowsLoopback && isLoopback(address))) return
  throw new TargetNotAllowedError(notPublic)
}

/**
 * Creates an agent that connects to permitted addresses only. It checks the addresses of the very lookup whose result it
 * connects to, so a name cannot resolve to another address after the check; the connection's address is checked again.
 * A pool keeps connections to hosts that were permitted. It follows no redirects and uses no proxy. It limits no
 * connections: a call that waits for one would be delayed by another call to the same host.
 * @param lookup for tests
 */
export function createGuardedAgent(rules: DialRules, lookup: LookupFunction = createNameLookup()): Agent {
  const secure = createGuardedConnector(rules, lookup)
  // Only a name of this machine is called by http, and it may lead elsewhere.
  const local = createGuardedConnector({ ...rules, addresses: { permits: () => false } }, lookup)
  return new Agent({
    maxHeaderSize,
    pipelining: 1,
    keepAliveTimeout: 4_000,
    keepAliveMaxTimeout: 30_000,
    allowH2: false,
    connect(options, callback) {
      try {
        checkOrigin(options, rules)
      } catch (error) {
        return void queueMicrotask(() => callback(error as Error, null))
      }
      const connect = options.protocol === 'https:' ? secure : local
      connect(options, callback)
    },
  })
}

function createGuardedConnector(rules: DialRules, lookup: LookupFunction): buildConnector.connector {
  const connect = buildConnector({ timeout: connectMs, lookup: guardLookup(rules, lookup) })
  return (options, callback) =>
    connect(options, (...[error, socket]: buildConnector.CallbackArgs) => {
      if (error) return callback(error, null)
      if (isPermitted(socket.remoteAddress ?? '', rules)) return callback(null, socket)
      socket.destroy()
      callback(new TargetNotAllowedError(notPublic), null)
    })
}

type Origin = Pick<URL, 'protocol' | 'hostname'> & { port: string | number }

/** Filters the addresses of a name. The lookup fails if none is permitted. */
function guardLookup(rules: DialRules, lookup: LookupFunction): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, found) => {
      if (error) return callback(error, [])
      const all = found as { address: string; family: number }[]
      const permitted = all.filter(({ address }) => isPermitted(address, rules))
      const [first] = permitted
      if (!first) return callback(new TargetNotAllowedError(notPublic), [])
      if (options.all) callback(null, permitted)
      else callback(null, first.address, first.family)
    })
  }
}

function isPermitted(address: string, rules: DialRules): boolean {
  try {
    checkAddress(address, rules)
    return true
  } catch {
    return false
  }
}

function bare(hostname: string): string {
  return hostname.replace(/^\[|\]$/g, '')
}
