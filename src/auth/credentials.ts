import { hash, randomBytes, timingSafeEqual } from 'node:crypto'

/** Permissions of a client, in the order in which scopes are listed everywhere. */
export const allScopes = ['videos:read', 'videos:write', 'videos:delete', 'webhooks:manage'] as const
export type Scope = (typeof allScopes)[number]

/** A client whose token has been verified. Names are unique only within a kind and origin. */
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

/** An API key or an OAuth client as configured. The gateway has only the SHA-256 of its secret. */
export interface Credential {
  name: string
  secretHash: Buffer
  scopes: Scope[]
}

/**
 * Reads `name:sha256hex[:scope+scope]`, comma-separated; white space around the parts is ignored. No scope list
 * means all of them. Throws an Error that names the entry by its position and name; no message repeats a hash.
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

/** Finds the credential with this secret, in the same time for a hit and a miss. */
export function findBySecret(credentials: Credential[], secret: string): Credential | undefined {
  const secretHash = hashSecret(secret)
  return findConstantTime(credentials, (credential) => sameHash(secretHash, credential.secretHash))
}

/** Finds the credential with this name and secret. An unknown name and a wrong secret cannot be told apart. */
export function findByName(credentials: Credential[], name: string, secret: string): Credential | undefined {
  const nameHash = hashSecret(name)
  const secretHash = hashSecret(secret)
  return findConstantTime(
    credentials,
    (credential) =>
      sameHash(nameHash, hashSecret(credential.name)) & sameHash(secretHash, credential.secretHash),
  )
}

/** Returns a new secret: the prefix, by which secret scanners recognize it, and 256 random bits in base64url. */
export function generateSecret(prefix: string): string {
  return prefix + randomBytes(32).toString('base64url')
}

/** Returns the SHA-256: secrets of 256 random bits cannot be guessed, so a slow hash would only add latency. */
export function hashSecret(secret: string): Buffer {
  return hash('sha256', secret, 'buffer')
}

/** Returns the given scopes that the gateway knows, each once, in the order of `allScopes`. */
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
    throw new Error(`${label}: unknown scope: use ${allScopes.join(', ')}, joined by +`)
  }
  return scopes
}

/** Checks every credential, so that the time does not show which one matched, or whether one did. */
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
