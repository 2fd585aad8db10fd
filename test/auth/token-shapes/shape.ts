import type { JWTPayload } from 'jose'

/** What is expected of a token: its scopes (without `videos:read`: 403), or that it is refused (401). */
export interface TokenShape {
  what: string
  header?: object
  payload: JWTPayload
  name?: string
  scopes: string[] | 'refused'
}

export interface Provider {
  name: string
  /** Path of the issuer identifier, with the slash that the provider puts at its end. */
  path: string
  /** As in docs/identity-providers.md. */
  env: Record<string, string>
  header: object
  tokens: TokenShape[]
}

export const [read, write] = ['videos:read', 'videos:write'] as const
