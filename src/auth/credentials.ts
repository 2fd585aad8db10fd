import { hash, randomBytes, timingSafeEqual } from 'node:crypto'

/** What a caller may do, in the order in which scopes are listed everywhere. */
export const allScopes = ['videos:read', 'videos:write', 'videos:delete'] as const
export type Scope = (typeof allScopes)[number]

/** The caller, once the token has been verified. Names are unique within a kind and origin only. */
export interface Principal {
  kind: 'api-key' | 'oauth-client' | 'external'
  name: string
  /** Of an external principal: the issuer, and the claim that the name comes from. */
  origin?: string
  scopes: ReadonlySet<Scope>
  /** Of an access token: when it expires, in ms since the epoch. */
  expiresAt?: number
}

/**
 * Returns the key under which idempotency keys and rate limits of a principal are kept. It differs for every two
 * principals: the separator is a space, which neither configured names nor issuers contain.
 */
export function principalKey({ kind, name, origin }: Principal): string {
  // An API key is kept under its bare name, so that idempotency keys stored by earlier versions are still found.
  if (kind === 'api-key') return name
  return origin === undefined ? `${kind} ${name}` : `${kind} ${origin} ${name}`
}

/** An API key or an OAuth client as configured. Only the SHA-256 of its secret is known to the gateway. */
export interface Credential {
  name: string
  secretHash: Buffer
  scopes: Scope[]
}

/**
 * Reads `name:sha256hex[:scope+scope]`, comma-separated; white space around the parts is ignored. No scopes
 * named means all of them. Throws an Error that tells the entry by its position and its name; no message
 * repeats a hash.
 */
export function parseCredentials(text: string): Credential[] {
  if (text.trim() === '') return []
  const credentials = text.split(',').map((entry, index) => parseEntry(entry, index + 1))
  const seen = new Set<string>()
  for (const { name } of credentials) {
    if (seen.has(name)) throw new Error(`the name '${name}' is used twice`)
    seen.add(name)
  }
  return credentials
}

/** The credential with this secret. Takes as long for a hit as for a miss. */
export function findBySecret(credentials: Credential[], secret: string): Credential | undefined {
  const secretHash = hashSecret(secret)
  return findConstantTime(credentials, (credential) => sameHash(secretHash, credential.secretHash))
}

/** The credential with this name and secret. An unknown name and a wrong secret are told apart by nothing. */
export function findByName(credentials: Credential[], name: string, secret: string): Credential | undefined {
  const nameHash = hashSecret(name)
  const secretHash = hashSecret(secret)
  return findConstantTime(
    credentials,
    (credential) =>
      sameHash(nameHash, hashSecret(credential.name)) & sameHash(secretHash, credential.secretHash),
  )
}

/** A new secret: the prefix, which lets secret scanners know it, and 256 random bits in base64url. */
export function generateSecret(prefix: string): string {
  return prefix + randomBytes(32).toString('base64url')
}

/** Plain SHA-256: secrets of 256 random bits cannot be guessed, so a slow hash would only cost latency. */
export function hashSecret(secret: string): Buffer {
  return hash('sha256', secret, 'buffer')
}

/** Those of the given scopes that the gateway knows, each once and in its own order. */
export function knownScopes(names: readonly string[]): Scope[] {
  return allScopes.filter((scope) => names.includes(scope))
}

function parseEntry(entry: string, position: number): Credential {
  // Scopes contain colons themselves: only the first two separate the parts.
  const [, name, hex, scopes] =
    /^([^:]*)(?::([^:]*)(?::(.*))?)?$/s.exec(entry)?.map((part) => part?.trim()) ?? []
  // The limit on the length also keeps a hash or a key put in the wrong place out of the messages below.
  if (!name || !/^[!-~]{1,40}$/.test(name)) {
    throw new Error(`entry ${position}: the name must be 1 to 40 printable ASCII characters without spaces`)
  }
  const label = `entry ${position} (${name})`
  if (!hex || !/^[0-9a-f]{64}$/i.test(hex)) {
    throw new Error(`${label}: expected NAME:SHA256 with 64 hexadecimal digits`)
  }
  return { name, secretHash: Buffer.from(hex, 'hex'), scopes: parseScopes(label, scopes) }
}

function parseScopes(label: string, text: string | undefined): Scope[] {
  if (text === undefined) return [...allScopes]
  const names = text.split('+').map((name) => name.trim())
  const scopes = knownScopes(names)
  if (scopes.length !== new Set(names).size) {
    throw new Error(`${label}: unknown scope; use ${allScopes.join(', ')}, joined by +`)
  }
  return scopes
}

/** Looks at every credential, so that the time taken does not tell which one matched, or whether one did. */
function findConstantTime(
  credentials: Credential[],
  matches: (credential: Credential) => number,
): Credential | undefined {
  let found = -1
  credentials.forEach((credential, index) => {
    found = matches(credential) === 1 ? index : found
  })
  return credentials[found]
}

/** 1 or 0, to be combined by `&`, which unlike `&&` always evaluates both sides. */
function sameHash(one: Buffer, other: Buffer): number {
  return Number(timingSafeEqual(one, other))
}
