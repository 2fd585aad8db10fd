import type { JWTPayload } from 'jose'
import { allScopes, knownScopes, type Scope } from './credentials.ts'

/** The claims in which an issuer puts scopes and audience, and what its values mean. */
export interface ClaimRules {
  /** Claims that hold scopes; a token has the scopes of all of them. Each is a name, or a path with dots. */
  scopeClaims: readonly string[]
  /** Scopes granted by a value of these claims that is not itself the name of a scope. */
  scopeMap: ReadonlyMap<string, readonly Scope[]>
  /** The claim that must name one of the audiences. */
  audienceClaim: string
  audiences: readonly string[]
}

/**
 * Returns the scopes that a token grants. A string holds several values, separated by spaces (RFC 6749 §3.3); an entry
 * of a list is one value, since the name of a role may contain a space.
 */
export function scopesOf(claims: JWTPayload, { scopeClaims, scopeMap }: ClaimRules): Set<Scope> {
  const values = scopeClaims.flatMap((name) => {
    const value = claimAt(claims, name)
    return typeof value === 'string' ? value.split(' ') : strings(value)
  })
  return new Set(knownScopes(values.flatMap((value) => scopeMap.get(value) ?? value)))
}

/** Returns what is wrong with the audience of a token, or undefined. */
export function audienceFlaw(
  claims: JWTPayload,
  { audienceClaim, audiences }: ClaimRules,
): string | undefined {
  const named = strings(claimAt(claims, audienceClaim))
  if (named.some((name) => audiences.includes(name))) return undefined
  const found = named.length > 0 ? `is ${named.join(', ')}` : 'is missing'
  return `its ${audienceClaim} ${found}, and OAUTH_AUDIENCE requires ${audiences.join(' or ')}`
}

/**
 * Reads entries of the form `VALUE=scope+scope`; white space around the parts is ignored.
 * @throws Error that names the entry by its position
 */
export function parseScopeMap(entries: readonly string[]): Map<string, Scope[]> {
  const pairs = entries.map((entry, index) => {
    // No scope contains an equals sign, a value may.
    const end = entry.lastIndexOf('=')
    const value = entry.slice(0, Math.max(end, 0)).trim()
    const names = entry
      .slice(end + 1)
      .split('+')
      .map((name) => name.trim())
    const scopes = knownScopes(names)
    if (value === '') throw new Error(`entry ${index + 1}: expected VALUE=scope+scope`)
    if (scopes.length !== new Set(names).size)
      throw new Error(`entry ${index + 1}: unknown scope: use ${allScopes.join(', ')}, joined by +`)
    return [value, scopes] as const
  })
  return new Map(pairs)
}

/**
 * Returns the claim of this name, or the one that a path with dots leads to. Names contain dots themselves, such as
 * `https://example.com/roles` or a Keycloak client `video.gateway`: every split is tried, the longest name first.
 */
function claimAt(claims: object, path: string): unknown {
  if (Object.hasOwn(claims, path)) return claims[path as keyof typeof claims]
  for (let end = path.lastIndexOf('.'); end > 0; end = path.lastIndexOf('.', end - 1)) {
    const name = path.slice(0, end)
    const inner: unknown = Object.hasOwn(claims, name) ? claims[name as keyof typeof claims] : undefined
    const found =
      typeof inner === 'object' && inner !== null ? claimAt(inner, path.slice(end + 1)) : undefined
    if (found !== undefined) return found
  }
  return undefined
}

function strings(value: unknown): string[] {
  return [value].flat().filter((entry) => typeof entry === 'string')
}
